"""Chain parameters: every number of the market that a chain may choose.

docs/reference/parameters.md is generated from the fields here, so their docstrings and bounds live in
`field(metadata=...)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis


def _parameter(default: int, unit: str, low: int, high: int, meaning: str) -> Any:
    return dataclasses.field(
        default=default, metadata={"unit": unit, "low": low, "high": high, "meaning": meaning}
    )


MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CREDIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Set in genesis; changed only through the ledger."""

    TAG: ClassVar[int] = 79
    min_block_interval_ms: Millis = _parameter(
        0, "ms", 0, MINUTE, "shortest time from one block's commit to the next proposal"
    )
    heartbeat_ms: Millis = _parameter(
        10_000, "ms", 500, HOUR, "an idle chain still makes a block this often, so that heads stay fresh"
    )
    fee_base: MicroCredits = _parameter(50, "ucredit", 0, CREDIT, "fee of any transaction")
    fee_per_byte: MicroCredits = _parameter(1, "ucredit", 0, 1_000, "fee for each byte of a transaction")
    faucet_credits: MicroCredits = _parameter(
        0, "ucredit", 0, 10_000 * CREDIT, "most a faucet message may mint; 0 means that there is no faucet"
    )
    faucet_stake: MicroStake = _parameter(0, "ustake", 0, 10_000 * CREDIT, "as faucet_credits, for stake")
    provider_bond: MicroStake = _parameter(CREDIT, "ustake", 0, 10**12, "least bond that stands behind a provider")
    min_runway_ms: Millis = _parameter(
        10 * MINUTE, "ms", 1_000, 30 * DAY, "time at full price that a deposit must cover"
    )
    min_deposit: MicroCredits = _parameter(1_000, "ucredit", 1, 1_000 * CREDIT, "least that can be deposited")
    handoff_window_ms: Millis = _parameter(
        5 * MINUTE, "ms", 5_000, DAY, "time from lease to activation, after which it lapses"
    )
    handoff_fee_cap: MicroCredits = _parameter(
        CREDIT // 10, "ucredit", 0, 100 * CREDIT, "most that a lapsed hand-off costs the tenant"
    )
    grace_ms: Millis = _parameter(
        10 * MINUTE, "ms", 0, 30 * DAY, "time from a dry escrow to the end of its leases"
    )
    alive_cover_ms: Millis = _parameter(
        20 * MINUTE, "ms", 1_000, 30 * DAY, "time for which leases accrue after a sign of life of their provider"
    )
    fault_after_ms: Millis = _parameter(
        30 * MINUTE, "ms", 1_000, 30 * DAY, "silence of a provider after which anybody may close its leases"
    )
    closed_kept_ms: Millis = _parameter(
        7 * DAY, "ms", HOUR, 365 * DAY, "time for which a closed deployment and its leases stay in the state"
    )
    validator_bond: MicroStake = _parameter(
        CREDIT, "ustake", CREDIT, 10**15, "least stake that makes a validator; each 10^6 of it is one vote"
    )
    unbonding_ms: Millis = _parameter(
        21 * DAY, "ms", 1_000, 365 * DAY, "time until unbonded stake is free; the evidence limits hold, too"
    )
    evidence_blocks: int = _parameter(
        100_000, "blocks", 1, 10**8, "evidence expires when it is older than this and than evidence_ms"
    )
    evidence_ms: Millis = _parameter(
        2 * DAY, "ms", 1_000, 365 * DAY, "evidence expires when it is older than this and than evidence_blocks"
    )
    slash_basis_points: int = _parameter(
        500, "1/10,000", 0, 10_000, "part of its stake that a convicted validator loses"
    )
    absence_blocks: int = _parameter(
        1_000, "blocks", 4, 10**8, "a validator is jailed that misses so many certificates in a row ..."
    )
    absence_ms: Millis = _parameter(10 * MINUTE, "ms", 1_000, 30 * DAY, "... and for at least so long")
    jail_ms: Millis = _parameter(10 * MINUTE, "ms", 1_000, 365 * DAY, "time a jailed validator must stay out")
    proposal_deposit: MicroCredits = _parameter(
        10 * CREDIT, "ucredit", 0, 10**6 * CREDIT, "least deposit that a proposal is made with"
    )
    voting_ms: Millis = _parameter(7 * DAY, "ms", 1_000, 365 * DAY, "time in which a proposal is voted on")
    quorum_basis_points: int = _parameter(
        3_340, "1/10,000", 0, 10_000, "part of all bonded stake that must vote, or the proposal's deposit is lost"
    )
    threshold_basis_points: int = _parameter(
        5_000, "1/10,000", 0, 9_999, "a proposal passes with more yes than this, abstentions not counted"
    )
    veto_basis_points: int = _parameter(
        3_340, "1/10,000", 0, 10_000, "with more vetoes than this among all votes its deposit is lost"
    )
    due_per_block: int = _parameter(
        200, "deployments", 1, 10_000, "due moments handled in one block at most; the rest follow in the next"
    )

    @property
    def has_faucet(self) -> bool:
        """Whether anyone may mint here."""
        return self.faucet_credits > 0 or self.faucet_stake > 0


FIELDS = {field.name: field for field in dataclasses.fields(Params)}


def params_from(values: Mapping[str, object]) -> Params:
    """Read parameters from a genesis document. Raises `Refused` `genesis.params`, naming the field."""
    return changed(Params(), values, code="genesis.params")


def changed(params: Params, values: Mapping[str, object], *, code: str) -> Params:
    """`params` with other values. Raises `Refused` with `code` for an unknown name or a value out of bounds."""
    for name, value in values.items():
        field = FIELDS.get(name)
        if field is None:
            raise Refused(code, f"unknown parameter {name!r}")
        low, high = field.metadata["low"], field.metadata["high"]
        if type(value) is not int or not low <= value <= high:
            raise Refused(code, f"{name} is {value!r}, allowed {low}..{high} {field.metadata['unit']}")
    return dataclasses.replace(params, **values)  # type: ignore[arg-type]
