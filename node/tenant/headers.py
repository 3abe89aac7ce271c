"""Which headers are true: followed by their signatures from an anchor, and compared between nodes.

One node is enough to learn a header, since its signatures speak for it. But validators who sign two chains can
show each node its own, so what one shows is compared with what the others hold, in the background and again before
anything that cannot be taken back. Two headers of one height that both hold are a fork: it is reported with all
that proves it, and nothing is believed any more.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

import trio

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.light import (
    TRUSTING_PERIOD_MS,
    Backwards,
    Bisection,
    Divergence,
    FondacoBlock,
    TrustedState,
    check_fresh,
    check_own_weight,
    find_divergence,
    trust,
    trust_genesis,
)
from fondaco.consensus.proof import HeaderId
from fondaco.consensus.validators import ValidatorSet
from fondaco.node import clock
from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId
from fondaco.node.news import News
from fondaco.node.tenant.nodes import Nodes, bytes_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.light import Fork, LightBlock
from fondaco.protocol.scalars import Height
from fondaco.protocol.signing import verify

log = logging.getLogger("fondaco.tenant")
LAG_PAUSE_S = 0.02
"""Before a node that is a block behind is asked again."""
WITNESS_GRACE_S = 1.0
"""How long the others are still waited for once one node has confirmed a header."""
WATCH_PAUSE_S = 0.05
"""Headers that come closer together than this are cross-checked as one, the newest."""


class Headers(Nodes):
    """The newest header that is trusted, and the way to newer ones."""

    def __init__(
        self, genesis: Genesis, host: Host, peers: Sequence[PeerId], *, anchor: LightBlock | None = None
    ) -> None:
        """Start from genesis, or from `anchor`: a header that the caller vouches for.

        Raises `PeerFault` `light.*` for an anchor whose parts do not belong together.
        """
        super().__init__(genesis.chain, host, peers)
        self.genesis = genesis
        self.chain = genesis.chain
        self._signatures = SignatureCache(genesis.chain, verify)
        self._genesis_trust = trust_genesis(
            chain=genesis.chain,
            height=Height(genesis.initial_height - 1),
            time=genesis.time,
            hash=genesis.hash(),
            validators=ValidatorSet.of((one.key, one.power) for one in genesis.validators),
        )
        self.trusted = self._genesis_trust
        self.verified: OrderedDict[int, LightBlock] = OrderedDict()
        """Headers verified of late, and the anchor, by height: what other nodes show must be the same."""
        self.advanced = News()
        """Rings when a newer header is trusted."""
        self.report_fork: Callable[[Fork], None] = _log_fork
        """Told once, with all that proves it."""
        self._shown_by: PeerId | None = None
        """Who showed the newest header."""
        self._checking = trio.Lock()
        self._checked_height = genesis.initial_height - 1
        if anchor is not None:
            self._anchor_at(anchor)
        self._anchor = self.trusted

    def _anchor_at(self, block: LightBlock) -> None:
        checkable = self._checkable(block)
        checkable.check_hashes()
        if checkable.chain != self.chain:
            raise PeerFault("light.chain", f"a header of {checkable.chain!r}, not of {self.chain!r}")
        self.trusted = trust(checkable)
        self.verified[checkable.height] = block

    async def _trust(self, peer: PeerId, block: LightBlock) -> None:
        """Verify a header, by way of others between where needed.

        A node that lags may show a head older than what is trusted: that is checked from genesis, or where genesis
        has expired by the hashes of the headers above it.
        """
        header = block.signed.header
        known = self.verified.get(header.height)
        if known is not None:
            if known.signed.header.hash() != header.hash():
                await self._contradicted(peer, block)
            return
        if header.height > self.trusted.height:
            path = await self._climb(self.trusted, peer, block)
        elif self._is_fresh(self._genesis_trust):
            path = await self._climb(self._genesis_trust, peer, block)
        else:
            path = [self._checkable(block)]
            path[0].check_hashes()
            await self._descend(header)
        for step in path:
            known = self.verified.get(step.height)  # another node may have shown it meanwhile
            if known is not None and known.signed.header.hash() != step.hash:
                await self._contradicted(peer, _wire(step))
            self._remember(step)
        newest = path[-1]
        if newest.height > self.trusted.height:
            self.trusted = trust(newest)
            self._shown_by = peer
            self.advanced.ring()

    async def _climb(
        self, start: TrustedState[ValidatorSet], peer: PeerId, block: LightBlock
    ) -> list[FondacoBlock]:
        """Verify `block` from `start`; what was verified on the way, lowest first."""
        target = block.signed.header.height
        if target <= start.height:
            raise PeerFault("light.height", f"there is no block at height {target}")
        way = Bisection(start, target, trusting_period=TRUSTING_PERIOD_MS)
        while (height := way.needs) is not None:
            step = block if height == target else await self.block(peer, height)
            way.feed(self._checkable(step), now=clock.now())
        return [step for step in way.path if isinstance(step, FondacoBlock)]

    async def _descend(self, header: Header) -> None:
        """Verify a header below by the hashes of those above it, which any node may show."""
        above = min((height for height in self.verified if height > header.height), default=None)
        if above is None:
            raise PeerFault("light.height", f"there is no block at height {header.height}")
        if above - header.height > limits.BACKWARD_HEADERS:
            raise Unreachable("light.behind", f"height {header.height} is too far below what is trusted")
        way = Backwards(height=above, hash=self.verified[above].signed.header.hash(), target=header.height)
        while (height := way.needs) is not None:
            if height == header.height:
                way.feed(header)
            elif (held := self.verified.get(height)) is not None:
                way.feed(held.signed.header)
            else:
                try:
                    way.feed(await self._header_named(height, way.expected))
                except Refused as error:
                    raise Unreachable("light.behind", f"no node shows height {height}: {error.message}") from None

    async def _header_named(self, height: int, expected: bytes) -> Header:
        async def ask(peer: PeerId) -> Header:
            header = (await self.block(peer, height)).signed.header
            if header.hash() != expected:
                raise PeerFault("light.hash", f"the header at height {height} is not the one named above it")
            return header

        return await self._first(ask)

    async def block(self, peer: PeerId, height: int) -> LightBlock:
        """What one node shows as the header at `height`; not verified."""
        return codec.decode(bytes_of(await self._call(peer, "block", [height])), LightBlock)

    async def confirmed(self, height: int, *, nodes: int) -> LightBlock:
        """The header at `height` with all that is shown with it, verified and shown by so many nodes.

        Raises `Unreachable` `light.no_witness`, or `Refused` `light.expired` if what is trusted is too old.
        """
        check_fresh(self.trusted, now=clock.now(), trusting_period=TRUSTING_PERIOD_MS)
        shown: list[LightBlock] = []

        async def ask(peer: PeerId) -> None:
            with self.judging(peer):
                block = await self.block(peer, height)
                if block.signed.header.height != height:
                    raise PeerFault("light.height", f"asked for height {height}, it shows another")
                await self._trust(peer, block)
                # A header that is known already, or vouched for, says nothing of the signatures shown with it.
                whole = self._checkable(block)
                whole.check_hashes()
                check_own_weight(whole)
                shown.append(block)

        with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1_000):
            async with trio.open_nursery() as nursery:
                for peer in self._ask_whom():
                    nursery.start_soon(ask, peer)
        if len(shown) < nodes:
            raise Unreachable(
                "light.no_witness", f"{len(shown)} nodes show the block at height {height}, {nodes} are wanted"
            )
        return shown[0]

    def _remember(self, step: FondacoBlock) -> None:
        self.verified[step.height] = _wire(step)
        while len(self.verified) > limits.LIGHT_BLOCKS_KEPT:
            del self.verified[min(self.verified)]

    def _is_fresh(self, state: TrustedState[ValidatorSet]) -> bool:
        return state.time + TRUSTING_PERIOD_MS > clock.now()

    async def _contradicted(self, peer: PeerId, block: LightBlock) -> None:
        """A node shows another header than one verified: it lies, or the chain has forked. Raises which it is."""
        height = block.signed.header.height
        start = self._anchor if self._anchor.height < height else self._genesis_trust
        try:
            path = await self._climb(start, peer, block)
        except (PeerFault, Refused) as error:
            # Refused is for a genesis that has expired: nothing speaks for this header but who showed it.
            raise PeerFault(
                "light.fork", f"two headers for height {height}, and this one does not hold: {error.message}"
            ) from None
        primary = [self._checkable(one) for _, one in sorted(self.verified.items())]
        found = find_divergence(start.height, primary, path)
        assert found is not None, "the header at this height differs"
        self.fork = Refused(
            "light.fork",
            f"validators signed two chains: {found.primary.hash.hex()[:16]} and {found.witness.hash.hex()[:16]}"
            f" at height {found.primary.height}",
            hint="trust nothing here until its validators have sorted it out; the evidence is kept",
        )
        fork = _fork_of(found)
        self.report_fork(fork)
        await self._tell_everybody(fork)
        raise self.fork

    async def anchor_at(self, wanted: HeaderId) -> None:
        """Start again from a header that the user vouches for, fetched from whichever node has it.

        Raises `Refused` `light.anchor` if what is trusted already says otherwise, or no node has this header.
        """
        known = self.verified.get(wanted.height)
        if known is not None and known.signed.header.hash() != wanted.hash:
            raise Refused(
                "light.anchor",
                f"{wanted} contradicts the header trusted so far, {known.signed.header.hash().hex()}",
                hint="one of them is wrong: if it is the older one, remove the file under HOME/trust",
            )

        async def ask(peer: PeerId) -> tuple[PeerId, LightBlock]:
            block = await self.block(peer, wanted.height)
            if block.signed.header.hash() != wanted.hash:
                raise Refused("light.anchor", f"the network's header at height {wanted.height} is another one")
            return peer, block

        before = self.trusted
        peer, block = await self._first(ask)
        try:
            if before.height < wanted.height and self._is_fresh(before):
                await self._climb(before, peer, block)
            self._anchor_at(block)
            anchor = self.trusted
            if before.height > wanted.height:
                await self._climb(anchor, peer, self.verified[before.height])
                self.trusted = before
        except PeerFault as error:
            raise Refused(
                "light.anchor",
                f"{wanted} is not of one chain with the header trusted so far, "
                f"{before.height}:{before.hash.hex()}: {error.message}",
                hint="compare both with a source you trust",
            ) from None
        self._anchor = anchor

    async def way(self, peer: PeerId, block: LightBlock, *, start: int | None = None) -> list[FondacoBlock]:
        """Headers by which somebody else can verify `block`, lowest first, `block` the last.

        From genesis while that proves anything; otherwise, or if `start` is given, beginning with a header that
        the reader has to vouch for.
        """
        target = block.signed.header.height
        if start is None and self._is_fresh(self._genesis_trust):
            return await self._climb(self._genesis_trust, peer, block)
        first = min(self._anchor.height if start is None else start, target)
        held = block if first == target else self.verified.get(first)
        if held is None:
            held = await self.block(peer, first)
            await self._trust(peer, held)
        begin = self._checkable(held)
        return [begin] if first == target else [begin, *await self._climb(trust(begin), peer, block)]

    async def cross_check(self) -> None:
        """Have other nodes confirm the newest header trusted: at least one of them, and all that answer in time.

        Call it before anything that cannot be taken back. Of many that do at once one asks, and it counts for all.
        Raises `Refused` `light.fork`, or `Unreachable` `light.no_witness` if there are others and none confirms.
        """
        async with self._checking:
            await self._cross_check()

    async def _cross_check(self) -> None:
        newest, shown_by = self.trusted, self._shown_by
        confirmed = trio.Event()

        async def ask(peer: PeerId) -> None:
            with self.judging(peer):
                await self._trust(peer, await self._shown_in_time(peer, newest.height))
                confirmed.set()

        async def not_much_longer() -> None:
            await confirmed.wait()
            scope.deadline = min(scope.deadline, trio.current_time() + WITNESS_GRACE_S)

        witnesses = [peer for peer in self._ask_whom() if peer != shown_by]
        if newest.height <= self._checked_height or not witnesses:
            return
        with trio.move_on_after(limits.WITNESS_MS / 1_000) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(not_much_longer)
                async with trio.open_nursery() as asking:
                    for peer in witnesses:
                        asking.start_soon(ask, peer)
                nursery.cancel_scope.cancel()
        if self.fork is not None:
            raise self.fork
        if not confirmed.is_set() and any(peer in self.peers for peer in witnesses):
            raise Unreachable(
                "light.no_witness", f"no other node confirms the block at height {newest.height}", hint="try again"
            )
        self._checked_height = max(self._checked_height, newest.height)

    async def _shown_in_time(self, peer: PeerId, height: int) -> LightBlock:
        """A node's header at `height`, waited for while it lags."""
        while True:
            try:
                return await self.block(peer, height)
            except Refused as error:
                if error.code != "block.unknown":
                    raise
            await trio.sleep(LAG_PAUSE_S)

    async def watch_witnesses(self) -> None:
        """Cross-check every newer header, in the background; ends with a fork."""
        while self.fork is None:
            waiting = self.advanced.next
            try:
                await self.cross_check()
            except FondacoError as error:
                log.info("cross-check: %s", error)
            await trio.sleep(WATCH_PAUSE_S)
            await waiting.wait()

    def _checkable(self, block: LightBlock) -> FondacoBlock:
        return FondacoBlock(
            signed=block.signed,
            validators=ValidatorSet(members=block.validators),
            next_validators=ValidatorSet(members=block.next_validators),
            holds=self._signatures.holds,
        )


def _wire(block: FondacoBlock) -> LightBlock:
    return LightBlock(
        signed=block.signed, validators=block.validators.members, next_validators=block.next_validators.members
    )


def _fork_of(found: Divergence[FondacoBlock]) -> Fork:
    return Fork(common_height=found.common_height, first=_wire(found.primary), second=_wire(found.witness))


def _log_fork(fork: Fork) -> None:
    log.error("the chain has forked at height %d", fork.first.signed.header.height)
