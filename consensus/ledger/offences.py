"""Evidence in blocks: what may be handed in, and what it does."""

from __future__ import annotations

from functools import partial

from fondaco.consensus.certificates import Holds
from fondaco.consensus.evidence import check
from fondaco.consensus.ledger import accounts, history, stakes
from fondaco.consensus.ledger.envelope import as_refusal
from fondaco.consensus.ledger.start import Head
from fondaco.consensus.ledger.state import State
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.events import Event
from fondaco.protocol.evidence import decode_evidence, evidence_hash
from fondaco.protocol.records import Convicted, key_convicted
from fondaco.protocol.scalars import ChainId, Height, Millis


def convict(state: State, raw: bytes, *, chain: ChainId, head: Head, now: Millis, holds: Holds) -> list[Event]:
    """Take evidence on top of `head`: its culprits are slashed, and it is remembered.

    Raises `Refused` `evidence.*`: known, of the future, expired, proving nothing, or only about validators that
    are convicted already.
    """
    try:
        evidence = decode_evidence(raw)
    except PeerFault as fault:
        raise as_refusal(fault) from None
    identity = evidence_hash(raw)
    if state.get(key_convicted(identity), Convicted) is not None:
        raise Refused("evidence.known", "a block has held this evidence")
    if history.is_expired(state, accounts.params_of(state), evidence.height, head=head.height, now=now):
        raise Refused("evidence.expired", f"evidence about height {evidence.height} is too old")
    culprits = [
        key
        for key in check(evidence, chain, partial(_validators_until, state, head), holds)
        if not stakes.stake_of(state, key).tombstoned
    ]
    if not culprits:
        raise Refused("evidence.known", "all it convicts are convicted already")
    history.remember_conviction(state, identity, evidence.height)
    return [
        event for key in culprits for event in stakes.slash(state, key, height=evidence.height, evidence=identity)
    ]


def _validators_until(state: State, head: Head, height: Height) -> ValidatorSet | None:
    """The validators of a height that is decided, or being decided."""
    return history.validators_at(state, height) if height <= head.height + 1 else None
