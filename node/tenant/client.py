"""The SDK: what a tenant does, each step verified, each failure saying what is at risk.

    async with Tenant.connect(home) as tenant:
        deployment = await tenant.deploy(Path("app.yaml"), report=print)
        status, body = await deployment.request("/")
        await deployment.close()

docs/tutorials/python.md goes through it.

A tenant is a light node: it holds a genesis, follows signatures, and takes nothing without a proof.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from fondaco.consensus.proof import HeaderId
from fondaco.node.chain import read_genesis
from fondaco.node.keys.keystore import Key, Keystore
from fondaco.node.keys.passphrases import read_passphrase
from fondaco.node.tenant import (
    auditing,
    bounds,
    governing,
    granting,
    joined,
    knowledge,
    measuring,
    ordering,
    records,
    relaxing,
    services,
)
from fondaco.node.tenant.budget import Budget, Purse
from fondaco.node.tenant.choosing import CHEAPEST, Choice, as_choice
from fondaco.node.tenant.connection import open_light
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.ordering import Draft
from fondaco.node.tenant.plans import Plan, describe
from fondaco.node.tenant.progress import Progress, Report, Timeline, quiet
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import addresses, manifest, sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline, deployment_id, lease_id
from fondaco.protocol.messages import OpenLease
from fondaco.protocol.query import OFFERS, parse
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.resources import Totals
from fondaco.protocol.scalars import GroupIndex, MicroCredits, PublicKey, TemplateId
from fondaco.protocol.selection import Stock, show_credits, stock

log = logging.getLogger("fondaco.tenant")
BID_WINDOW_MS = 1_500
"""How long to wait for better bids once every group has one."""
BID_PATIENCE_MS = 15_000
FEE_ALLOWANCE = 1_000_000
"""Ucredit kept apart for fees when the faucet is asked."""


@dataclass(slots=True)
class Tenant:
    """One tenant on one network; made by `connect`."""

    home: Path
    light: LightClient
    wallet: Wallet
    timeline: Timeline = field(default_factory=Timeline)
    _orders: trio.CapacityLimiter = field(default_factory=partial(trio.CapacityLimiter, bounds.ORDERS_AT_ONCE))

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        home: Path,
        *,
        key: str | Key | None = None,
        genesis: Path | None = None,
        nodes: Sequence[str] = (),
        trusted: HeaderId | None = None,
        budget: Budget | None = None,
    ) -> AsyncIterator[Tenant]:
        """Open the network in `home` as a light node, from the newest header verified there, or from `trusted`.

        `key`: one that is open, or the name of one in `home`; the one that `keys use` named unless given.
        With `genesis`, a file, the home joins the network of these `nodes` first, or need not be there at all: of
        nodes one that answers is enough, it names others.

        Its peer identity is made for this once: the same key may be at work in several processes, and being
        known is the channel's business. `budget`: the most that goes out, besides one that is kept in the home;
        what would exceed it is refused with `budget.exceeded` before it is signed.

        Raises `Refused` for a home that is none, `Unreachable` if no node answers.
        """
        document = joined.admit(home, genesis, nodes) if genesis else read_genesis(home / joined.GENESIS)
        if not isinstance(key, Key):
            store = Keystore(home / "keys")
            key = store.load(key or store.default(), read_passphrase(home))
        async with open_light(home, document, nodes=nodes, trusted=trusted) as light:
            if genesis is not None:
                joined.keep(home, genesis, nodes, light.addresses())
            purse = Purse(home, key.public_key, limit=budget)
            yield cls(home, light, Wallet(light, key.signer(), purse))

    @property
    def address(self) -> str:
        return addresses.encode(self.wallet.signer.public_key)

    @property
    def folder(self) -> Path:
        """Where this tenant's deployments are remembered."""
        return self.home / "deployments"

    def aliases(self) -> dict[str, PublicKey]:
        """Auditors as SDL files may name them here. Raises `Refused` `auditors.malformed`."""
        return dict((*self.light.genesis.auditors, *auditing.local_aliases(self.home)))

    async def plan(
        self,
        text: bytes,
        *,
        deposit: int | None = None,
        select: str | Choice = CHEAPEST,
        template: TemplateId | None = None,
        payer: PublicKey | None = None,
        wanted: int = 1,
        report: Report = quiet,
    ) -> Plan:
        """Order what an SDL file asks for and choose among the answers; nothing is spent yet.

        `select`: how to choose, see `choosing.choice`. `wanted`: so many bids there must be for each group.
        Raises as `order` and `bids` do.
        """
        choice = as_choice(select)
        order = await self._draft(text, deposit, template, payer, report)
        return await self.bids(order, text, select=choice, wanted=wanted, report=report)

    async def order(
        self,
        text: bytes,
        *,
        deposit: int | None = None,
        template: TemplateId | None = None,
        payer: PublicKey | None = None,
        report: Report = quiet,
    ) -> Draft:
        """Publish what an SDL file asks for; `bids` hears the answers. It stands for five minutes, at no cost.

        `deposit`: ucredit that go into escrow with the lease. `payer`: whose spending grant pays that, instead of
        this tenant. Raises `SdlError`, or `Refused`: `grant.*`, `wallet.funds`, what file or deposit lack.
        """
        order = await self._draft(text, deposit, template, payer, report)
        await self.light.submit_order(order.signed)
        return order

    async def _draft(
        self,
        text: bytes,
        deposit: int | None,
        template: TemplateId | None,
        payer: PublicKey | None,
        report: Report,
    ) -> Draft:
        """Make an order that can be paid, and publish nothing yet."""
        stack = sdl.parse(text)
        params = await self.wallet.params()
        given = None if deposit is None else MicroCredits(deposit)
        local = auditing.local_aliases(self.home)
        if template is not None:
            await governing.template(self.light, template)  # before anything is ordered
        order = ordering.draft(
            self.light,
            self.wallet.signer,
            stack,
            params,
            deposit=given,
            aliases=local,
            template=template,
            payer=payer,
        )
        own = order.signed.order.deposit
        if payer is not None:
            await granting.check(self.light, payer, self.wallet.signer.public_key, own)
            own = MicroCredits(0)
        account = await self.wallet.ensure(own + FEE_ALLOWANCE)
        report(Progress("funds", f"{self.address} holds {show_credits(account.credits)} credits"))
        await self.light.check_fresh_head(params.heartbeat_ms)
        self.timeline.start()
        report(Progress("order", f"{len(order.groups)} group(s), order {order.id.hex()[:12]}"))
        return order

    async def bids(
        self,
        order: Draft,
        text: bytes,
        *,
        select: str | Choice = CHEAPEST,
        wanted: int = 1,
        report: Report = quiet,
    ) -> Plan:
        """Hear the answers to an order made of an SDL file and rank them; it may be done several times.

        Raises `TooFewBids` (`bids.none`, `bids.few`) with the reasons providers gave and what would draw bids, or
        `Refused` `order.expired`, or what `choosing.choice` refuses.
        """
        plan = await self.hear(order, as_choice(select), wanted=wanted, report=report)
        refusal = ordering.lacking(plan.draft, plan.answers, plan.rankings, wanted=wanted)
        if refusal is not None:
            raise relaxing.too_few(refusal, text, plan.draft, plan.answers, plan.rankings, wanted=wanted)
        await self.light.cross_check()  # what the choice rests on is confirmed while everybody is there
        return plan

    async def hear(
        self,
        order: Draft,
        choice: Choice,
        *,
        wanted: int = 1,
        without: Collection[PublicKey] = (),
        report: Report = quiet,
    ) -> Plan:
        """Publish an order, hear the answers, but for bids of `without`, and rank them.

        A group may be left without a bid to take: see `ordering.lacking`. Raises `Refused` `light.fork`.
        """

        def heard(answer: SignedBid | SignedDecline) -> None:
            if isinstance(answer, SignedBid):
                self.timeline.mark("first_bid")
            report(Progress("answer", describe(answer)))
            meter.heard(answer)

        async with measuring.meter(self.home, self.light, choice, report) as meter:
            answers = await ordering.collect(
                self.light,
                order,
                window_ms=BID_WINDOW_MS,
                patience_ms=BID_PATIENCE_MS,
                on_answer=heard,
                wanted=wanted,
                without=without,
                on_withheld=lambda peer, count: report(Progress("withheld", f"{peer} hides {count} answer(s)")),
            )
            for bids in answers.bids.values():
                for provider in without:
                    bids.pop(provider, None)
            latencies = await meter.latencies(answers)
        if self.light.fork is not None:
            raise self.light.fork  # and not that nobody bids: nothing that was heard is believed any more
        names, used = self.aliases(), await self.used(choice)
        rankings = await ordering.choose(
            self.light, order, answers, choice=choice, names=names, used=used, latencies=latencies
        )
        for ranking in rankings:
            for line in ranking.explain():
                report(Progress("choice", line))
        return Plan(draft=order, answers=answers, rankings=rankings)

    async def offers(
        self, where: str = "", *, sort: str = "price", descending: bool = False, wanted: Totals = stock.NOTHING
    ) -> list[Stock]:
        """What registered providers offer now, of which the query `where` holds; see `stock.rows` for `wanted`.

        Latency is known of those that were measured before, from here.
        Raises `Refused` for a query that means nothing, or `offers.sort`.
        """
        query = parse(where, OFFERS) if where else None
        if OFFERS.find(sort) is None:
            near = OFFERS.nearest(sort)
            raise Refused(
                "offers.sort", f"there is no field {sort!r}", hint=f"did you mean {near}?" if near else ""
            )
        params = await self.wallet.params()
        await self.light.check_fresh_head(params.heartbeat_ms)
        said = {signed.offer.provider: signed.offer for signed in await self.light.offers()}
        here = await measuring.remembered(self.home, self.light.chain)
        known = await knowledge.gather(self.light, said, names=self.aliases(), latencies=here)
        found = (
            row
            for key, offer in said.items()
            if key in known.providers
            for row in stock.rows(offer, known.of(key), wanted)
        )
        return stock.look(found, query, by=sort, descending=descending)

    async def accept(self, plan: Plan, *, name: str, report: Report = quiet) -> Deployment:
        """Open the leases of a plan and hand the workload over; returns when it runs.

        Running means: this tenant reached it over the channel, and its activation is proven on the ledger.
        Should a step after the lease fail, the error says what is in escrow and how to get it back.
        """
        found = await self.open(plan, name=name, report=report)
        await found.hand_over(report)
        return found

    async def open(self, plan: Plan, *, name: str, report: Report = quiet) -> Deployment:
        """Open the leases of a plan, and no more: `hand_over` what is returned."""
        order = plan.draft
        deployment = deployment_id(order.id)
        leases = [lease_id(deployment, GroupIndex(index)) for index in range(len(order.groups))]
        record = records.DeploymentFile(
            deployment=deployment,
            name=name,
            owner=self.wallet.signer.public_key,
            leases=tuple(
                records.LeaseFile(
                    lease=lease,
                    provider=bid.bid.provider,
                    peer=bid.bid.peer,
                    addresses=bid.bid.addresses,
                    salt=salt,
                    manifest=manifest.group_to_json(group),
                    group=asked,
                )
                for lease, bid, salt, group, asked in zip(
                    leases, plan.bids(), order.salts, order.manifests, order.groups, strict=True
                )
            ),
        )
        await self.light.cross_check()
        records.save(self.folder, record)  # before the money moves: a crash must not lose the salts
        deposit = order.signed.order.deposit
        try:
            height = await self.wallet.transact(OpenLease(order=order.signed, bids=plan.bids(), deposit=deposit))
        except Refused:
            records.forget(self.folder, record)
            raise
        for lease in leases:
            proven = await self.light.record(key_lease(lease), Lease, at_least=height)
            if proven is None:
                raise Refused("lease.unproven", "a node says the lease was made, and the ledger does not hold it")
        self.timeline.mark("lease")
        report(Progress("lease", f"agreed in block {height}, {show_credits(deposit)} credits in escrow"))
        return Deployment(self, record)

    async def deploy(
        self,
        file: Path,
        *,
        name: str = "",
        deposit: int | None = None,
        select: str | Choice = CHEAPEST,
        template: TemplateId | None = None,
        payer: PublicKey | None = None,
        wanted: int = 1,
        report: Report = quiet,
    ) -> Deployment:
        """Plan and accept in one go. Of many at once some wait: a provider reserves for so many orders of one."""
        text = ordering.read_sdl(file)
        async with self._orders:
            plan = await self.plan(
                text, deposit=deposit, select=select, template=template, payer=payer, wanted=wanted, report=report
            )
            found = await self.open(plan, name=name or file.stem, report=report)
        await found.hand_over(report)
        return found

    def find(self, text: str) -> LeaseHandle:
        """A lease by (the start of) its id, or by its deployment's name.

        Raises `Refused` `lease.not_found`; `lease.ambiguous`, also where it names a service of several; or
        `keys.not_owner` where it is of another key.
        """
        service = services.load(self.home, text)
        if service is not None:
            names = ", ".join(service.replicas) or "none yet"
            raise Refused(
                "lease.ambiguous", f"{text} is a service; its replicas: {names}", hint="name one of them"
            )
        record, lease = records.find(self.folder, text, owner=self.wallet.signer.public_key)
        return LeaseHandle(Deployment(self, record), lease)

    async def used(self, choice: Choice) -> dict[PublicKey, int]:
        """How many leases of this tenant each provider serves, where the choice may ask."""
        if not choice.asks_of_providers:
            return {}
        own = self.wallet.signer.public_key
        leases = [lease for _, _, lease in await self.deployments() if lease is not None and lease.tenant == own]
        return Counter(lease.provider for lease in leases if lease.state is not LeaseState.CLOSED)

    async def deployments(self) -> list[tuple[records.DeploymentFile, records.LeaseFile, Lease | None]]:
        """Everything on file in this home, of other keys as well, with what the ledger says of it."""
        found = []
        for record in records.load_all(self.folder):
            for lease in record.leases:
                found.append((record, lease, await self.light.record(key_lease(lease.lease), Lease)))
        return found
