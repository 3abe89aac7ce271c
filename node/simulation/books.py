"""The money and the leases of a simulated chain, counted by somebody who trusts no total the ledger keeps.

`Books.post` follows what each block wrote, so that every block can be checked for the price of what it touched;
`recount` counts a whole store anew and must come to the same. Nothing here is shared with the ledger's own
arithmetic but the form of the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from fondaco.consensus import merkle
from fondaco.consensus.ledger.state import AUX, NODE, RECORD
from fondaco.node.simulation.violation import Violation
from fondaco.protocol import codec, limits
from fondaco.protocol.events import Burnt, Event, Minted
from fondaco.protocol.records import (
    GOVERNANCE,
    SUPPLY,
    TOTALS,
    Account,
    Attestation,
    Deployment,
    DeploymentState,
    Governance,
    Lease,
    LeaseState,
    Proposal,
    Provider,
    SpendingGrant,
    Stake,
    Supply,
    Totals,
    UsedIds,
    ValidatorSets,
    key_attestation_expiry,
    key_closed,
    key_deployment,
    key_due,
    key_grant_expiry,
    key_lease,
    key_live,
    key_provider,
)
from fondaco.protocol.scalars import Hash, Millis

HOUR_MS = 3_600_000
T = TypeVar("T")
KINDS: dict[bytes, type] = {
    b"account": Account,
    b"provider": Provider,
    b"stake": Stake,
    b"deployment": Deployment,
    b"lease": Lease,
    b"proposal": Proposal,
    b"governance": Governance,
    b"attestation": Attestation,
    b"grant": SpendingGrant,
    b"used-ids": UsedIds,
    b"supply": Supply,
    b"totals": Totals,
    b"validators": ValidatorSets,
}
INDEXES = (b"due", b"live", b"closed", b"used-order", b"used-order-expiry", b"attestation-expiry", b"grant-expiry")


class Books:
    """Follows a chain block by block. Every check raises `Violation`."""

    def __init__(self) -> None:
        self._records: dict[bytes, object] = {}
        self._keys: dict[bytes, set[bytes]] = {name: set() for name in INDEXES}
        self._ids: Counter[bytes] = Counter()
        """Transaction ids remembered, by bucket."""
        self.sums: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        """What genesis, the faucet and the issuer brought into the world and left in it."""

    @classmethod
    def opened(cls, genesis: Mapping[bytes, bytes]) -> Books:
        """The books of a new chain: all that there is was made by genesis."""
        books = cls()
        books._enter(genesis)
        supply = books._one(SUPPLY, Supply)
        books.made.update({"credits": supply.credits, "stake": supply.stake})
        books._check_money()
        return books

    def post(self, writes: Mapping[bytes, bytes | None], events: Sequence[Event], *, now: Millis) -> None:
        """Follow one block, and check everything that it touched."""
        for event in events:
            if isinstance(event, Minted):
                self.made.update({"credits": event.credits, "stake": event.stake})
            elif isinstance(event, Burnt):
                self.made.subtract({"credits": event.credits})
        touched = self._enter(writes)
        self._check(touched, now=now)

    def recount(self, store: Mapping[bytes, bytes], *, root: Hash, now: Millis) -> None:
        """Count a whole store; it must come to what these books say, and its tree to `root`."""
        fresh = Books()
        fresh.made = self.made
        fresh._check(fresh._enter(store), now=now)
        if fresh.sums != self.sums or fresh._keys != self._keys or fresh._ids != self._ids:
            raise Violation("counted anew, the store comes to something else than its blocks wrote")
        _require(
            self._keys[b"used-order"] == {key[8:] for key in self._keys[b"used-order-expiry"]},
            "every used order is forgotten at its time, and no other",
        )
        deployments = [one for one in fresh._records.values() if isinstance(one, Deployment)]
        due = {key_due(one.due_at, one.id)[4:] for one in deployments if one.due_at is not None}
        _require(due == self._keys[b"due"], "the due index holds every deployment that is due, and no other")
        leases = {one.id: one for one in fresh._records.values() if isinstance(one, Lease)}
        live = {
            key_live(one.provider, one.id, announced=one.reclamation is not None)[5:]
            for one in leases.values()
            if one.state != LeaseState.CLOSED
        }
        _require(
            live == self._keys[b"live"], "every provider's leases are known that have not ended, and no others"
        )
        ended = {
            key_closed(Millis(max(leases[lease].closed_at or 0 for lease in one.leases)), one.id)[7:]
            for one in deployments
            if one.state == DeploymentState.CLOSED
        }
        named = {lease for one in deployments for lease in one.leases}
        ended |= {
            key_closed(one.closed_at or Millis(0), one.id)[7:] for one in leases.values() if one.id not in named
        }
        _require(ended == self._keys[b"closed"], "what has ended is forgotten at its time, and nothing else")
        fresh._check_trust()
        fresh._check_grants()
        records = {key[len(RECORD) :]: raw for key, raw in store.items() if key.startswith(RECORD)}
        tree = {path: node for path, node in merkle.update(lambda _: None, records).items() if node is not None}
        _require(merkle.root_of(tree.get) == root, "the tree built anew has the root of the newest header")
        kept = {key[len(NODE) :]: node for key, node in store.items() if key.startswith(NODE)}
        _require(kept == tree, "the store holds the nodes of the tree and no others")

    # Inside

    def _enter(self, writes: Mapping[bytes, bytes | None]) -> set[bytes]:
        """Take changed records over; the keys of deployments whose own or whose leases' records changed."""
        touched = set()
        for key, raw in writes.items():
            if key.startswith(AUX + b"used/"):
                self._ids[key[len(AUX) + 5 :][:8]] += 1 if raw is not None else -1
            if not key.startswith(RECORD):
                continue
            key = key[len(RECORD) :]
            name, _, rest = key.partition(b"/")
            if name in INDEXES:
                (self._keys[name].discard if raw is None else self._keys[name].add)(rest)
            elif name in KINDS:
                before = self._records.pop(key, None)
                after: object = None if raw is None else codec.decode(raw, KINDS[name])
                self._replace(before, after)
                if after is not None:
                    self._records[key] = after
                if isinstance(after, Deployment):
                    touched.add(key)
                elif isinstance(after, Lease):
                    touched.add(key_deployment(after.deployment))
        self._ids = +self._ids
        return touched

    def _replace(self, before: object, after: object) -> None:
        if isinstance(before, Lease) and before.state == LeaseState.CLOSED:
            _require(after in (before, None), f"lease {before.id.hex()[:8]} is closed and never changes again")
        if isinstance(after, Account):
            _require(bool(after.credits or after.stake), "nobody's account is kept without money in it")
        if isinstance(before, Deployment | Lease):
            _require(after is not None or before.state.name == "CLOSED", "only what has ended is forgotten")
        for sign, record in ((-1, before), (1, after)):
            for what, amount in _worth(record).items():
                self.sums[what] += sign * amount

    def _one(self, key: bytes, kind: type[T]) -> T:
        record = self._records.get(key)
        _require(isinstance(record, kind), f"there is a record {key!r}")
        assert isinstance(record, kind)
        return record

    def _check(self, touched: Iterable[bytes], *, now: Millis) -> None:
        self._check_money()
        for key in touched:
            deployment = self._one(key, Deployment)
            leases = [self._one(key_lease(lease), Lease) for lease in deployment.leases]
            self._check_deployment(deployment, leases)
            for lease in leases:
                _check_lease(lease, deployment, now=now)
        for bucket, count in self._ids.items():
            counted = self._one(b"used-ids/" + bucket, UsedIds).count
            _require(counted >= count, f"{count} ids are remembered in a bucket of {counted}")

    def _check_money(self) -> None:
        supply, totals = self._one(SUPPLY, Supply), self._one(TOTALS, Totals)
        sums, governance = self.sums, self._one(GOVERNANCE, Governance)
        for what, said, counted in (
            ("ucredit ever made", supply.credits, self.made["credits"]),
            ("ustake ever made", supply.stake, self.made["stake"]),
            ("ucredit there is", supply.credits, sums["credits"] + sums["escrow"] + totals.pool_credits),
            ("ustake there is", supply.stake, sums["stake"] + sums["bonds"] + totals.pool_stake),
            ("ucredit in accounts", totals.account_credits, sums["credits"]),
            ("ucredit in escrow", totals.escrow_credits, sums["escrow"]),
            ("ustake in accounts", totals.account_stake, sums["stake"]),
            ("ustake bonded", totals.bonded_stake, sums["bonds"]),
            ("ustake that can be voted with", governance.electorate, sums["votes"]),
            ("providers", totals.providers, sums["providers"]),
        ):
            _require(said == counted, f"{what}: {said} by the ledger, {counted} counted")

    def _check_trust(self) -> None:
        said = [one for one in self._records.values() if isinstance(one, Attestation)]
        for one in said:
            provider = self._one(key_provider(one.provider), Provider)
            _require(set(one.attributes) <= set(provider.attributes), "auditors confirm what a provider states")
        prefix = len(b"attestation-expiry/")
        ends = {key_attestation_expiry(one.expires_at, one.provider, one.auditor)[prefix:] for one in said}
        _require(ends == self._keys[b"attestation-expiry"], "each attestation is forgotten at its time, no other")

    def _check_grants(self) -> None:
        given = [one for one in self._records.values() if isinstance(one, SpendingGrant)]
        _require(all(one.spent <= one.limit for one in given), "nobody spends more than was granted")
        prefix = len(b"grant-expiry/")
        ends = {key_grant_expiry(one.expires_at, one.granter, one.grantee)[prefix:] for one in given}
        _require(ends == self._keys[b"grant-expiry"], "each grant is forgotten at its time, no other")

    def _check_deployment(self, deployment: Deployment, leases: Sequence[Lease]) -> None:
        closed = deployment.state == DeploymentState.CLOSED
        due = None if deployment.due_at is None else key_due(deployment.due_at, deployment.id)[4:]
        waits = deployment.state == DeploymentState.GRACE or any(
            lease.state == LeaseState.AWAITING for lease in leases
        )
        for holds, promise in (
            (len(deployment.deposits) <= limits.DEPOSITORS, "an escrow has few depositors"),
            (all(deposit.amount > 0 for deposit in deployment.deposits), "no deposit is empty"),
            ((deployment.dry_at is not None) == (deployment.state == DeploymentState.GRACE), "grace is dry"),
            (closed == all(lease.state == LeaseState.CLOSED for lease in leases), "it ends with its leases"),
            (not closed or not deployment.deposits, "what is left goes back when it ends"),
            (closed <= (due is None), "an ended deployment is never due"),
            (not waits or due is not None, "what waits is due"),
            (due is None or due in self._keys[b"due"], "what is due stands in the index"),
        ):
            _require(holds, f"deployment {deployment.id.hex()[:8]}: {promise}")


def _worth(record: object) -> Mapping[str, int]:
    match record:
        case Account():
            return {"credits": record.credits, "stake": record.stake}
        case Deployment():
            return {"escrow": sum(deposit.amount for deposit in record.deposits)}
        case Provider():
            return {"bonds": record.bond, "providers": 1}
        case Stake():
            bonds = record.bonded + sum(entry.amount for entry in record.unbonding)
            return {"bonds": bonds, "votes": 0 if record.tombstoned else record.bonded}
        case Proposal():
            return {"escrow": record.deposit}
        case _:
            return {}


def _check_lease(lease: Lease, deployment: Deployment, *, now: Millis) -> None:
    """What was served was paid or is owed, to the ucredit, however often it was settled."""
    earned = lease.price_per_hour * lease.active_ms // HOUR_MS
    settled = lease.paid + lease.debt
    served_until = now if lease.closed_at is None else lease.closed_at
    closed = lease.state == LeaseState.CLOSED
    for holds, promise in (
        (settled <= earned, "no more is paid than was earned"),
        (lease.state != LeaseState.ACTIVE or settled == earned, "all that was earned is paid or owed"),
        (not lease.debt or deployment.state == DeploymentState.GRACE, "only a dry deployment is in debt"),
        (closed == (lease.closed_at is not None) == (lease.reason is not None), "an end has a time and a reason"),
        (lease.opened_at <= served_until <= now, "nothing happens in the future"),
    ):
        _require(holds, f"lease {lease.id.hex()[:8]}: {promise} (paid {lease.paid}, earned {earned})")
    if lease.activated_at is None:
        _require((lease.active_ms, lease.paid) == (0, 0), "nothing is paid for what was never handed over")
    else:
        _require(lease.active_ms <= served_until - lease.activated_at, "nobody serves longer than it lasted")


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise Violation(f"the books: {promise}")
