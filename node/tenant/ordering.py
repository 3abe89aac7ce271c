"""From an SDL file to a chosen bid for each group: the order, its answers, and the choice with reasons."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.consensus.ledger.genesis import Auditors
from fondaco.consensus.ledger.params import Params
from fondaco.node import clock
from fondaco.node.keys.sealing import random_blinding_salt, random_salt
from fondaco.node.tenant import knowledge
from fondaco.node.tenant.choosing import Choice
from fondaco.node.tenant.hearing import Hearing, OnWithheld
from fondaco.node.tenant.light import LightClient
from fondaco.protocol import addresses, manifest, sdl, selection
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.market import (
    Order,
    SignedBid,
    SignedDecline,
    SignedOrder,
    order_id,
)
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import (
    BlindingSalt,
    GroupIndex,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
    TemplateId,
)
from fondaco.protocol.signing import Signer

log = logging.getLogger("fondaco.tenant")
ORDER_LIFE_MS = 300_000
RUNWAY_MS = HOUR_MS
"""What a deposit covers unless the tenant says otherwise: an hour at the highest price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order with what only its tenant knows: the manifests, and the salts that hide them."""

    id: OrderId
    signed: SignedOrder
    manifests: tuple[manifest.ManifestGroup, ...]
    salts: tuple[BlindingSalt, ...] = field(repr=False)

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.signed.order.groups


@dataclass(slots=True)
class Answers:
    """What providers said, group by group."""

    bids: dict[GroupIndex, dict[PublicKey, SignedBid]] = field(default_factory=dict)
    declines: dict[GroupIndex, dict[PublicKey, SignedDecline]] = field(default_factory=dict)

    def count_bids(self) -> int:
        return sum(len(by_provider) for by_provider in self.bids.values())

    def count_declines(self) -> int:
        return sum(len(by_provider) for by_provider in self.declines.values())

    def enough(self, groups: int, wanted: int) -> bool:
        """Whether every group has so many bids."""
        return all(len(self.bids.get(GroupIndex(group), {})) >= wanted for group in range(groups))

    def complete(self, groups: int, providers: set[PublicKey]) -> bool:
        """Whether every provider known has spoken on every group."""
        return all(
            providers <= self.bids.get(group, {}).keys() | self.declines.get(group, {}).keys()
            for group in map(GroupIndex, range(groups))
        )


def draft(
    light: LightClient,
    signer: Signer,
    stack: sdl.Stack,
    params: Params,
    *,
    deposit: MicroCredits | None,
    aliases: Auditors = (),
    template: TemplateId | None = None,
    payer: PublicKey | None = None,
) -> Draft:
    """Make an order of an SDL file. Raises `Refused` with what the file or the deposit lacks.

    Auditors are named by address, by alias in the chain's genesis, or in `aliases`, which have the last word.
    """
    groups = stack.groups(dict((*light.genesis.auditors, *aliases)))
    rate = sum(group.max_price_per_hour for group in groups)
    runway = max(params.min_runway_ms, RUNWAY_MS)
    if deposit is None:
        deposit = MicroCredits(max(params.min_deposit, -(-rate * runway // HOUR_MS)))
    by_name = {group.name: group for group in stack.manifest}
    manifests = tuple(by_name[group.name] for group in groups)
    salts = tuple(random_blinding_salt() for _ in groups)
    order = Order(
        tenant=signer.public_key,
        groups=groups,
        commitments=tuple(manifest.commitment(salt, group) for salt, group in zip(salts, manifests, strict=True)),
        reclamation_window_ms=stack.reclamation_ms,
        deposit=deposit,
        reply_peers=(),
        expires_at=Millis(clock.now() + ORDER_LIFE_MS),
        salt=random_salt(),
        template=template,
        payer=payer,
    )
    signed = SignedOrder(order=order, signature=signer.sign(light.chain, order))
    return Draft(id=order_id(light.chain, order), signed=signed, manifests=manifests, salts=salts)


async def collect(
    light: LightClient,
    order: Draft,
    *,
    window_ms: int,
    patience_ms: int,
    on_answer: Callable[[SignedBid | SignedDecline], None],
    wanted: int = 1,
    without: Collection[PublicKey] = (),
    on_withheld: OnWithheld = lambda peer, count: None,
) -> Answers:
    """Publish the order and gather answers; those of `without` are not waited for.

    Stops when every registered provider has answered; or, from `window_ms` on, as soon as every group has
    `wanted` bids; or after `patience_ms`. `hearing` says which answers count, and which nodes are told of to
    `on_withheld`, maybe only after the answers are returned. Raises `Unreachable` `order.unwatched` if all nodes
    go away before that.
    """
    answers = Answers()
    expected = set(await light.providers()) - set(without)
    groups = len(order.groups)
    await light.submit_order(order.signed)
    started = trio.current_time()
    async with Hearing(light, order.id, groups, on_withheld).answers() as incoming:
        while not answers.complete(groups, expected) or not expected:
            waited_ms = (trio.current_time() - started) * 1_000
            enough = answers.enough(groups, wanted)
            left_ms = (window_ms if enough else patience_ms) - waited_ms
            with trio.move_on_after(max(0, left_ms / 1_000)) as scope:
                try:
                    answer = await incoming.receive()
                except trio.EndOfChannel:
                    if enough:
                        break
                    raise Unreachable(
                        "order.unwatched", "every node stopped telling about the order", hint="try again"
                    ) from None
                _take(answers, answer)
                on_answer(answer)
            if scope.cancelled_caught:
                break
    return answers


def _take(answers: Answers, answer: SignedBid | SignedDecline) -> None:
    """Keep an answer, which says something new."""
    if isinstance(answer, SignedBid):
        answers.bids.setdefault(answer.bid.group, {})[answer.bid.provider] = answer
    else:
        answers.declines.setdefault(answer.decline.group, {})[answer.decline.provider] = answer


async def choose(
    light: LightClient,
    order: Draft,
    answers: Answers,
    *,
    choice: Choice,
    names: Mapping[str, PublicKey] | None = None,
    used: Mapping[PublicKey, int] | None = None,
    latencies: Mapping[PublicKey, selection.Latency] | None = None,
) -> tuple[selection.Ranking, ...]:
    """Rank the bids of each group, with what can be proven of the bidders where the choice asks for it.

    `names`: of auditors; `used`: where the tenant's replicas are; `latencies`: as measured (`measuring.meter`). A
    group may be left without a bid to take.
    """
    known = selection.NOTHING_KNOWN
    if choice.asks_of_providers:
        bidders = {provider for bids in answers.bids.values() for provider in bids}
        known = await knowledge.gather(light, bidders, names=names or {}, used=used, latencies=latencies)
    return tuple(
        selection.rank(
            group,
            [selection.candidate(light.chain, bid) for bid in answers.bids.get(GroupIndex(index), {}).values()],
            now=light.trusted_time,
            tenant=order.signed.order.tenant,
            strategy=choice.strategy(light.trusted_time),
            known=known,
            where=choice.where,
        )
        for index, group in enumerate(order.groups)
    )


def read_sdl(file: Path) -> bytes:
    """The text of an SDL file. Raises `Refused` `sdl.unreadable`."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused("sdl.unreadable", f"{file}: {error.strerror}") from None


def lacking(
    order: Draft, answers: Answers, rankings: tuple[selection.Ranking, ...], *, wanted: int = 1
) -> Refused | None:
    """`bids.none` or `bids.few` where a group has fewer bids to take than wanted, with what speaks against it."""
    for index, (group, ranking) in enumerate(zip(order.groups, rankings, strict=True)):
        if len(ranking.ranked) < wanted:
            declines = answers.declines.get(GroupIndex(index), {}).values()
            return _too_few(group, declines, ranking, wanted)
    return None


def _too_few(group: Group, declines: Iterable[SignedDecline], ranking: selection.Ranking, wanted: int) -> Refused:
    """Why there are too few bids to take, and the cheapest thing that somebody would bid on instead."""
    said = [one.decline for one in declines]
    reasons = [str(reason) for one in said for reason in one.reasons]
    reasons += [one.reason for one in ranking.set_aside]
    hint = "raise the price or ask for less" if reasons else "are providers running?"
    instead = [(offer.price_per_hour, one.provider, str(offer)) for one in said for offer in one.counter_offers]
    if instead:
        _, provider, offer = min(instead)
        hint = f"{addresses.encode(provider)} would serve {offer}"
    told = f": {'; '.join(reasons)}" if reasons else ""
    if ranking.ranked:
        bid = f"{len(ranking.ranked)} of {wanted} bids wanted came for group {group.name!r}"
        return Refused("bids.few", f"{bid}{told}", hint=hint)
    return Refused("bids.none", f"nobody serves group {group.name!r}{told}", hint=hint)
