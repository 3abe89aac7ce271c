"""The SDK: what a tenant does, each step verified, each failure saying what is at risk.

    async with Tenant.connect(home) as tenant:
        deployment = await tenant.deploy(Path("app.yaml"), report=print)
        print(await deployment.request("/"))
        await deployment.close()

A tenant is a light node: it holds a genesis, follows signatures, and takes nothing without a proof.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fondaco.consensus.proof import HeaderId
from fondaco.node.chain import read_genesis
from fondaco.node.config import read_passphrase
from fondaco.node.keys.keystore import Keystore
from fondaco.node.tenant import auditing, governing, granting, measuring, ordering, records, relaxing, services
from fondaco.node.tenant.choosing import CHEAPEST, Choice, as_choice
from fondaco.node.tenant.connection import open_light
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.node.tenant.progress import Progress, Report, Timeline, quiet
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import addresses, manifest, sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline, deployment_id, lease_id
from fondaco.protocol.messages import OpenLease
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.scalars import GroupIndex, MicroCredits, PublicKey, TemplateId
from fondaco.protocol.selection import Ranking, show_credits

log = logging.getLogger("fondaco.tenant")
BID_WINDOW_MS = 1_500
"""How long to wait for better bids once every group has one."""
BID_PATIENCE_MS = 15_000
FEE_ALLOWANCE = 1_000_000
"""Ucredit kept apart for fees when the faucet is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is about to be bought: shown before anything is spent."""

    draft: Draft
    answers: Answers
    rankings: tuple[Ranking, ...]

    @property
    def price_per_hour(self) -> int:
        return sum(ranking.best.price_per_hour for ranking in self.rankings if ranking.best)

    def bids(self) -> tuple[SignedBid, ...]:
        return tuple(ranking.best.signed for ranking in self.rankings if ranking.best and ranking.best.signed)


@dataclass(slots=True)
class Tenant:
    """One tenant on one network; made by `connect`."""

    home: Path
    light: LightClient
    wallet: Wallet
    timeline: Timeline = field(default_factory=Timeline)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, home: Path, *, key: str = "tenant", trusted: HeaderId | None = None
    ) -> AsyncIterator[Tenant]:
        """Open the network in `home` as a light node, from the newest header verified there, or from `trusted`.

        Its peer identity is made for this once: the same key may be at work in several processes, and being
        known is the channel's business.

        Raises `Refused` for a home that is none, `Unreachable` if no node answers.
        """
        genesis = read_genesis(home / "genesis.json")
        signer_key = Keystore(home / "keys").load(key, read_passphrase(home))
        async with open_light(home, genesis, trusted=trusted) as light:
            yield cls(home, light, Wallet(light, signer_key.signer()))

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

        `select`: how to choose, see `choosing.choice`. `payer`: whose spending grant pays the deposit, instead of
        this tenant. `wanted`: so many bids there must be for each group. Raises `SdlError`, `TooFewBids`
        (`bids.none`, `bids.few`) with the reasons providers gave and what would draw bids, or `Refused`:
        `grant.*`, or what `choice` refuses.
        """
        choice = as_choice(select)
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
        self.light.check_fresh_head(params.heartbeat_ms)
        self.timeline.start()
        report(Progress("order", f"{len(order.groups)} group(s), order {order.id.hex()[:12]}"))
        return await self._choose(text, order, choice, wanted, report)

    async def _choose(self, text: bytes, order: Draft, choice: Choice, wanted: int, report: Report) -> Plan:
        """Publish an order, hear the answers and rank them. Raises `TooFewBids`."""

        def heard(answer: SignedBid | SignedDecline) -> None:
            if isinstance(answer, SignedBid):
                self.timeline.mark("first_bid")
            report(Progress("answer", describe(answer)))
            meter.heard(answer)

        window, patience = BID_WINDOW_MS, BID_PATIENCE_MS
        async with measuring.meter(self.home, self.light, choice, report) as meter:
            answers = await ordering.collect(
                self.light, order, window_ms=window, patience_ms=patience, on_answer=heard, wanted=wanted
            )
            latencies = await meter.latencies(answers)
        names, used = self.aliases(), await self.used(choice)
        rankings = await ordering.choose(
            self.light, order, answers, choice=choice, names=names, used=used, latencies=latencies
        )
        refusal = ordering.lacking(order, answers, rankings, wanted=wanted)
        if refusal is not None:
            raise relaxing.too_few(refusal, text, order, answers, rankings, wanted=wanted)
        for ranking in rankings:
            for line in ranking.explain():
                report(Progress("choice", line))
        return Plan(draft=order, answers=answers, rankings=rankings)

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
        """Plan and accept in one go."""
        text = read_sdl(file)
        plan = await self.plan(
            text, deposit=deposit, select=select, template=template, payer=payer, wanted=wanted, report=report
        )
        return await self.accept(plan, name=name or file.stem, report=report)

    def find(self, text: str) -> LeaseHandle:
        """A lease by (the start of) its id, or by its deployment's name.

        Raises `Refused` `lease.not_found`, or `lease.ambiguous`, also where it names a service of several.
        """
        service = services.load(self.home, text)
        if service is not None:
            names = ", ".join(service.replicas) or "none yet"
            raise Refused(
                "lease.ambiguous", f"{text} is a service; its replicas: {names}", hint="name one of them"
            )
        record, lease = records.find(self.folder, text)
        return LeaseHandle(Deployment(self, record), lease)

    async def used(self, choice: Choice) -> dict[PublicKey, int]:
        """How many leases of this tenant each provider serves, where the choice may ask."""
        if not choice.asks_of_providers:
            return {}
        found = await self.deployments()
        return Counter(lease.provider for _, _, lease in found if lease and lease.state is not LeaseState.CLOSED)

    async def deployments(self) -> list[tuple[records.DeploymentFile, records.LeaseFile, Lease | None]]:
        """Everything this tenant remembers, with what the ledger says of it."""
        found = []
        for record in records.load_all(self.folder):
            for lease in record.leases:
                found.append((record, lease, await self.light.record(key_lease(lease.lease), Lease)))
        return found


def read_sdl(file: Path) -> bytes:
    """Raises `Refused` `sdl.unreadable`."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused("sdl.unreadable", f"{file}: {error.strerror}") from None


def describe(answer: SignedBid | SignedDecline) -> str:
    """An answer as people read it: who, and the price or the reasons."""
    if isinstance(answer, SignedBid):
        price = show_credits(answer.bid.price_per_hour)
        return f"{addresses.encode(answer.bid.provider)[:16]} bids {price} credits/h"
    reasons = "; ".join(map(str, answer.decline.reasons))
    instead = "; or ".join(map(str, answer.decline.counter_offers))
    told = f"{addresses.encode(answer.decline.provider)[:16]} declines: {reasons}"
    return f"{told}; it would serve {instead}" if instead else told
