"""Any history of the market, step by step: after every block each record is counted again."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, Actor, Draft, World, codes

from fondaco.protocol import reasons
from fondaco.protocol.records import Deployment, DeploymentState, LeaseState
from fondaco.protocol.scalars import DeploymentId, Hash, LeaseId, Millis

TENANTS, PROVIDERS = ("alice", "bob"), ("paul", "petra")
PRICES = st.sampled_from([1, 3_600, 1_000_000, 3_600_000, 50_000_000])
AMOUNTS = st.integers(1, 5_000) | st.sampled_from([0, 10**6, 2**63 - 1])
STEPS = st.sampled_from([1, 999, 1_000, 10_000, MINUTE, 5 * MINUTE, 10 * MINUTE, HOUR]) | st.integers(1, 3 * HOUR)
Pairs = tuple[tuple[str, str], ...]
ATTRIBUTES = st.sampled_from(
    [(), (("region", "eu"),), (("region", "us"),), (("region", "eu"), ("tier", "gold")), (("tier", "gold"),)]
)
tenants, providers = st.sampled_from(TENANTS), st.sampled_from(PROVIDERS)


class Market(RuleBasedStateMachine):
    leases = Bundle("leases")

    @initialize(
        due_per_block=st.sampled_from([1, 2, 200]),
        grace_ms=st.sampled_from([0, MINUTE, HOUR]),
        cover_ms=st.sampled_from([MINUTE, 20 * MINUTE, 100 * HOUR]),
    )
    def begin(self, due_per_block: int, grace_ms: int, cover_ms: int) -> None:
        params = FREE | {"due_per_block": due_per_block, "grace_ms": grace_ms, "alive_cover_ms": cover_ms}
        self.world = World(*TENANTS, *PROVIDERS, credits=1_000_000, issuer="alice", **params)
        self.backlog = due_per_block < 200
        self.books = Bookkeeper(self.world)
        self.waiting: list[Draft] = []
        self.world.block(*(self.actor(name).registers(attributes=(("region", "eu"),)) for name in PROVIDERS))

    def actor(self, name: str) -> Actor:
        return self.world.actors(name)[0]

    def parties(self, lease: LeaseId) -> tuple[Actor, Actor]:
        record = self.world.lease(lease)
        return self.world.by_key[record.tenant], self.world.by_key[record.provider]

    @rule(
        target=leases,
        tenant=tenants,
        offers=st.lists(st.tuples(providers, PRICES), min_size=1, max_size=3),
        deposit=st.integers(1, 50_000),
        window_ms=st.sampled_from([0, HOUR]),
        after_ms=STEPS,
    )
    def open(  # type: ignore[no-untyped-def]
        self, tenant: str, offers: list[tuple[str, int]], deposit: int, window_ms: int, after_ms: int
    ):
        self.world.ahead_ms = after_ms
        draft = self.actor(tenant).leases(
            *((self.actor(name), price) for name, price in offers),
            deposit=deposit,
            reclamation_window_ms=Millis(window_ms),
        )
        opened = self.commit(draft, after_ms)[-1] == ""
        return multiple(*(draft.leases if opened else []))

    @rule(lease=leases)
    def activate(self, lease: LeaseId) -> None:
        tenant, provider = self.parties(lease)
        self.waiting.append(provider.activates(lease, receipt_of=tenant))

    @rule(lease=leases)
    def withdraw(self, lease: LeaseId) -> None:
        self.waiting.append(self.parties(lease)[1].withdraws(lease))

    @rule(lease=leases, by_tenant=st.booleans(), reason=st.sampled_from([0, 10_000, 20_000]))
    def close(self, lease: LeaseId, by_tenant: bool, reason: int) -> None:
        self.waiting.append(self.parties(lease)[0 if by_tenant else 1].closes(lease, reason=reason))

    @rule(name=providers)
    def live(self, name: str) -> None:
        self.waiting.append(self.actor(name).lives())

    @rule(lease=leases)
    def reclaim(self, lease: LeaseId) -> None:
        self.waiting.append(self.parties(lease)[1].reclaims(lease))

    @rule(name=providers, reclaim=st.booleans())
    def retire(self, name: str, reclaim: bool) -> None:
        """Who is gone may come back by `register`."""
        self.waiting.append(self.actor(name).retires(reclaim=reclaim))

    @rule(lease=leases)
    def close_all(self, lease: LeaseId) -> None:
        self.waiting.append(self.parties(lease)[0].closes_all(self.deployment_of(lease)))

    @rule(lease=leases, number=st.integers(0, 3))
    def update(self, lease: LeaseId, number: int) -> None:
        record = self.world.lease(lease)
        tenant = self.world.by_key[record.tenant]
        self.waiting.append(tenant.updates(record.deployment, Hash(bytes((number,)) * 32), group=record.group))

    @rule(target=leases, lease=leases, name=providers, price=PRICES, after_ms=STEPS)
    def replace(self, lease: LeaseId, name: str, price: int, after_ms: int):  # type: ignore[no-untyped-def]
        """Also of leases that have been replaced already: their group is then replaced again."""
        self.world.ahead_ms = after_ms
        old = self.world.lease(lease)
        newest = self.world.newest(old.deployment, old.group)
        draft = self.world.by_key[old.tenant].moves(
            old.deployment, self.actor(name), price, group=old.group, commitments=(newest.commitment,)
        )
        replaced = self.commit(draft, after_ms)[-1] == ""
        return multiple(*([self.world.newest(old.deployment, old.group).id] if replaced else []))

    @rule(granter=tenants | providers, to=tenants | providers, limit=AMOUNTS, for_ms=STEPS)
    def grant(self, granter: str, to: str, limit: int, for_ms: int) -> None:
        self.waiting.append(self.actor(granter).grants(self.actor(to), limit, for_ms=for_ms))

    @rule(granter=tenants | providers, to=tenants | providers)
    def end_grant(self, granter: str, to: str) -> None:
        self.waiting.append(self.actor(granter).ends_grant(self.actor(to)))

    @rule(lease=leases, name=tenants | providers, payer=tenants | providers, amount=AMOUNTS)
    def deposit_for(self, lease: LeaseId, name: str, payer: str, amount: int) -> None:
        into, source = self.deployment_of(lease), self.actor(payer)
        self.waiting.append(self.actor(name).deposits(into, amount, payer=source))

    @rule(lease=leases, name=tenants)
    def give_up(self, lease: LeaseId, name: str) -> None:
        """Anybody closes, in case the provider has been silent for long."""
        self.waiting.append(self.actor(name).closes(lease, reason=reasons.FAULT))

    @rule(lease=consumes(leases))
    def forget(self, lease: LeaseId) -> None:
        """Leave a lease to itself, so that it lapses or runs dry."""

    @rule(lease=leases, name=tenants | providers, amount=AMOUNTS)
    def deposit(self, lease: LeaseId, name: str, amount: int) -> None:
        self.waiting.append(self.actor(name).deposits(self.deployment_of(lease), amount))

    @rule(sender=tenants | providers, to=tenants | providers, amount=AMOUNTS)
    def pay(self, sender: str, to: str, amount: int) -> None:
        self.waiting.append(self.actor(sender).pays(self.actor(to), amount))

    @rule(name=providers, bond=st.sampled_from([10**6, 5 * 10**6, 5]), attributes=ATTRIBUTES)
    def register(self, name: str, bond: int, attributes: Pairs) -> None:
        self.waiting.append(self.actor(name).registers(bond=bond, attributes=attributes))

    @rule(auditor=tenants | providers, name=providers, attributes=ATTRIBUTES, for_ms=STEPS)
    def attest(self, auditor: str, name: str, attributes: Pairs, for_ms: int) -> None:
        self.waiting.append(self.actor(auditor).attests(self.actor(name), attributes, for_ms=for_ms))

    @rule(sender=tenants | providers, name=providers, auditor=tenants | providers)
    def revoke(self, sender: str, name: str, auditor: str) -> None:
        self.waiting.append(self.actor(sender).revokes(self.actor(name), self.actor(auditor)))

    @rule(sender=tenants, to=tenants | providers, amount=AMOUNTS)
    def mint(self, sender: str, to: str, amount: int) -> None:
        self.waiting.append(self.actor(sender).mints(self.actor(to), amount))

    @rule(sender=tenants, amount=AMOUNTS)
    def burn(self, sender: str, amount: int) -> None:
        self.waiting.append(self.actor(sender).burns(amount))

    @rule(after_ms=STEPS)
    def block(self, after_ms: int) -> None:
        self.commit(None, after_ms)

    @rule(early_ms=st.sampled_from([-1, 0, 0, 1]))
    def block_when_due(self, early_ms: int) -> None:
        due = self.world.ledger.next_due_moment()
        if due is not None and due - early_ms > self.world.now:
            self.commit(None, due - early_ms - self.world.now)

    def deployment_of(self, lease: LeaseId) -> DeploymentId:
        return self.world.lease(lease).deployment

    def commit(self, last: Draft | None, after_ms: int) -> list[str]:
        """Keep a block of what waits, `last` behind it; how each was taken."""
        drafts, self.waiting = [*self.waiting, *([last] if last else [])], []
        return codes(self.world.block(*drafts, after_ms=after_ms).events)

    @invariant()
    def everything_adds_up(self) -> None:
        if not hasattr(self, "books"):
            return
        self.books.count()
        now = self.world.now
        for deployment in self.books.of[b"deployment"]:
            self.check_clock(deployment, now)

    def check_clock(self, deployment: Deployment, now: int) -> None:
        """What is due later than now has not been done; what was due before now has, but for a backlog."""
        if deployment.due_at is not None and not self.backlog:
            assert deployment.due_at > now
        for identity in deployment.leases:
            lease = self.world.lease(identity)
            if lease.state == LeaseState.ACTIVE and deployment.state == DeploymentState.OPEN:
                assert lease.activated_at is not None
                assert lease.active_ms <= now - lease.activated_at
                assert lease.debt == 0


Market.TestCase.settings = settings(max_examples=70, stateful_step_count=30, deadline=None)
TestMarket = pytest.mark.timeout(400)(Market.TestCase)  # beside other tests, and under coverage
