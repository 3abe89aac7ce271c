"""Counts every record of a ledger again, and holds the running totals and the indexes to the count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.support.ledger import World, entries

from fondaco.consensus import merkle
from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.consensus.ledger.genesis import STAKE_PER_POWER
from fondaco.consensus.ledger.state import AUX, RECORD
from fondaco.protocol import codec, limits
from fondaco.protocol.records import (
    GOVERNANCE,
    Account,
    Attestation,
    Ballot,
    Deployment,
    DeploymentState,
    Governance,
    Lease,
    LeaseState,
    Proposal,
    ProposalState,
    Provider,
    SpendingGrant,
    Stake,
    Supply,
    Template,
    Totals,
    UsedIds,
    UsedOrder,
    key_attestation_expiry,
    key_closed,
    key_due,
    key_grant_expiry,
    key_live,
    key_proposal_due,
)
from fondaco.protocol.scalars import Millis

KINDS = {
    b"account": Account,
    b"provider": Provider,
    b"stake": Stake,
    b"deployment": Deployment,
    b"lease": Lease,
    b"attestation": Attestation,
    b"grant": SpendingGrant,
    b"proposal": Proposal,
    b"ballot": Ballot,
    b"template": Template,
    b"used-order": UsedOrder,
    b"used-ids": UsedIds,
}


@dataclass
class Bookkeeper:
    """Looks at a world after each block; remembers what may never change again."""

    world: World
    closed: dict[bytes, bytes] = field(default_factory=dict)
    """Bytes of closed leases: nothing is paid beyond closing."""
    made: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        genesis = self.world.genesis
        self.made["credits"] = sum(account.credits for account in genesis.accounts)
        bonded = sum(validator.power for validator in genesis.validators) * STAKE_PER_POWER
        self.made["stake"] = bonded + sum(account.stake for account in genesis.accounts)

    def count(self, *, tree: bool = True) -> None:
        """Assert everything that holds after every block; with `tree` the state root is built anew too."""
        stored = entries(self.world.store)
        self.records = {key[len(RECORD) :]: raw for key, raw in stored.items() if key.startswith(RECORD)}
        self.of: dict[bytes, list] = {name: [] for name in KINDS}  # type: ignore[type-arg]
        for key, raw in self.records.items():
            name = key.split(b"/")[0]
            if name in KINDS:
                self.of[name].append(codec.decode(raw, KINDS[name]))
        self._money()
        self._deployments()
        self._leases()
        self._trust()
        self._grants()
        self._votes()
        self._templates()
        self._replay_guard(stored)
        if tree and self.world.blocks:
            nodes = merkle.update(lambda _: None, self.records)
            root = merkle.root_of({path: node for path, node in nodes.items() if node is not None}.get)
            assert root == self.world.blocks[-1].block.header.state_root

    def _money(self) -> None:
        supply = codec.decode(self.records[b"supply"], Supply)
        totals = codec.decode(self.records[b"totals"], Totals)
        made = {what: amount + self.world.minted[what] for what, amount in self.made.items()}
        assert (supply.credits, supply.stake) == (made["credits"], made["stake"])
        accounts, providers = self.of[b"account"], self.of[b"provider"]
        assert totals.account_credits == sum(account.credits for account in accounts)
        assert totals.account_stake == sum(account.stake for account in accounts)
        assert totals.escrow_credits == sum(
            deposit.amount for deployment in self.of[b"deployment"] for deposit in deployment.deposits
        ) + sum(proposal.deposit for proposal in self.of[b"proposal"])
        bonded = sum(provider.bond for provider in providers)
        for stake in self.of[b"stake"]:
            bonded += stake.bonded + sum(entry.amount for entry in stake.unbonding)
        assert totals.bonded_stake == bonded
        assert totals.providers == len(providers)
        assert supply.credits == totals.account_credits + totals.escrow_credits + totals.pool_credits
        assert supply.stake == totals.account_stake + totals.bonded_stake + totals.pool_stake
        assert all(account.credits or account.stake for account in accounts), "an empty account was kept"

    def _deployments(self) -> None:
        leases = {lease.id: lease for lease in self.of[b"lease"]}
        due = set()
        for deployment in self.of[b"deployment"]:
            states = [leases[lease].state for lease in deployment.leases]
            assert len(deployment.deposits) <= limits.DEPOSITORS
            assert all(deposit.amount > 0 for deposit in deployment.deposits)
            assert (deployment.dry_at is not None) == (deployment.state == DeploymentState.GRACE)
            assert (deployment.state == DeploymentState.CLOSED) == all(one == LeaseState.CLOSED for one in states)
            if deployment.state == DeploymentState.CLOSED:
                assert not deployment.deposits
                assert deployment.due_at is None
            if LeaseState.AWAITING in states or deployment.state == DeploymentState.GRACE:
                assert deployment.due_at is not None
            if deployment.due_at is not None:
                due.add(key_due(deployment.due_at, deployment.id))
        self._indexes()
        assert due == {key for key in self.records if key.startswith(b"due/")}

    def _indexes(self) -> None:
        """What providers serve, and what is to leave the state, is filed exactly."""
        live = {
            key_live(lease.provider, lease.id, announced=lease.reclamation is not None)
            for lease in self.of[b"lease"]
            if lease.state != LeaseState.CLOSED
        }
        assert live == {key for key in self.records if key.startswith(b"live/")}
        providers = {provider.key for provider in self.of[b"provider"]}
        assert {lease.provider for lease in self.of[b"lease"] if lease.state != LeaseState.CLOSED} <= providers
        ended = {lease.id: lease.closed_at for lease in self.of[b"lease"]}
        closed = {
            key_closed(Millis(max(ended[lease] or 0 for lease in deployment.leases)), deployment.id)
            for deployment in self.of[b"deployment"]
            if deployment.state == DeploymentState.CLOSED
        }
        named = [lease for deployment in self.of[b"deployment"] for lease in deployment.leases]
        assert len(set(named)) == len(named)
        assert set(named) <= set(ended), "a lease is gone before its deployment"
        replaced = {key_closed(ended[lease] or Millis(0), lease) for lease in set(ended) - set(named)}
        assert closed | replaced == {key for key in self.records if key.startswith(b"closed/")}

    def _leases(self) -> None:
        now = self.world.now
        for lease in self.of[b"lease"]:
            earned = lease.price_per_hour * lease.active_ms // HOUR_MS
            assert lease.paid + lease.debt <= earned
            if lease.state == LeaseState.ACTIVE:
                assert lease.paid + lease.debt == earned
            if lease.reclamation is not None:
                assert lease.state != LeaseState.CLOSED
                assert lease.reclamation_window_ms > 0
            if lease.activated_at is None:
                assert (lease.active_ms, lease.paid, lease.debt) == (0, 0, 0)
            else:
                assert lease.active_ms <= (lease.closed_at or now) - lease.activated_at
            if lease.state == LeaseState.CLOSED:
                raw = codec.encode(lease)
                assert self.closed.setdefault(lease.id, raw) == raw, "a closed lease changed"
                assert lease.closed_at is not None
                assert lease.closed_at <= now

    def _trust(self) -> None:
        """Auditors confirm what providers state; the index knows of each when it ends."""
        own = {provider.key: set(provider.attributes) for provider in self.of[b"provider"]}
        said, ends = Counter[bytes](), set()
        for one in self.of[b"attestation"]:
            assert one.attributes, "an attestation says nothing"
            assert set(one.attributes) <= own[one.provider], "it is attested, and the provider does not state it"
            said[one.provider] += 1
            ends.add(key_attestation_expiry(one.expires_at, one.provider, one.auditor))
        assert all(count <= limits.AUDITORS_PER_PROVIDER for count in said.values())
        assert ends == {key for key in self.records if key.startswith(b"attestation-expiry/")}

    def _grants(self) -> None:
        given, ends = Counter[bytes](), set()
        for one in self.of[b"grant"]:
            assert one.spent <= one.limit, "more was spent than was allowed"
            given[one.granter] += 1
            ends.add(key_grant_expiry(one.expires_at, one.granter, one.grantee))
        assert all(count <= limits.GRANTS for count in given.values())
        assert ends == {key for key in self.records if key.startswith(b"grant-expiry/")}

    def _votes(self) -> None:
        """Tallies are what ballots come to; what was voted with is still bonded, unless it was slashed."""
        governance = codec.decode(self.records[GOVERNANCE], Governance)
        stakes = {stake.validator: stake for stake in self.of[b"stake"]}
        free = sum(stake.bonded for stake in stakes.values() if not stake.tombstoned)
        assert governance.electorate == free
        cast: Counter[tuple[int, str]] = Counter()
        for ballot in self.of[b"ballot"]:
            if ballot.choice is not None:
                cast[ballot.proposal, ballot.choice.name.lower()] += ballot.weight
                if ballot.proposal in governance.open and not stakes[ballot.voter].tombstoned:
                    assert ballot.weight <= stakes[ballot.voter].bonded, "stake left that was voted with"
        being_voted_on, due = [], set()
        for proposal in self.of[b"proposal"]:
            due.add(key_proposal_due(proposal.due_at, proposal.number))
            if proposal.state != ProposalState.VOTING:
                assert not proposal.deposit
                continue
            being_voted_on.append(proposal.number)
            for choice in ("yes", "no", "abstain", "veto"):
                assert getattr(proposal.tally, choice) == cast[proposal.number, choice]
        assert governance.open == tuple(sorted(being_voted_on))
        assert len(governance.open) <= limits.PROPOSALS_OPEN
        assert due == {key for key in self.records if key.startswith(b"proposal-due/")}

    def _templates(self) -> None:
        known = {template.id: template for template in self.of[b"template"]}
        for template in known.values():
            assert template.basis_points <= limits.ROYALTY_BASIS_POINTS
            assert template.parent is None or known[template.parent].royalties == template.royalties[:-1]
        for deployment in self.of[b"deployment"]:
            assert deployment.template is None or deployment.template in known

    def _replay_guard(self, stored: dict[bytes, bytes]) -> None:
        """Ids in use, orders in use, and the records that count them agree."""
        buckets = Counter(key[len(AUX) + 5 :][:8] for key in stored if key.startswith(AUX + b"used/"))
        for key, raw in self.records.items():
            if key.startswith(b"used-ids/"):
                assert codec.decode(raw, UsedIds).count >= buckets.pop(key[-8:], 0)
        assert not buckets, "ids are remembered that no record counts"
        orders = {key[len(b"used-order/") :] for key in self.records if key.startswith(b"used-order/")}
        expiries = {
            key[len(b"used-order-expiry/") + 8 :] for key in self.records if key.startswith(b"used-order-expiry/")
        }
        assert orders == expiries
