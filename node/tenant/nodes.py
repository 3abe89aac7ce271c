"""Several nodes asked at once: the first good answer counts, and whoever is at fault is left out from then on."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import trio

from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.light import PROTOCOL, Fork
from fondaco.protocol.scalars import ChainId

log = logging.getLogger("fondaco.tenant")
T = TypeVar("T")
RETRY_PAUSE_S = 0.2
"""Before nodes of which none answered are asked again."""

SPREAD_GRACE_S = 0.5
"""After two nodes spoke, how long the others are waited for."""
ALONE = 2
"""Fewer nodes than these that say the same may be one that lies."""
BROKEN = frozenset({"rpc.fault", "rpc.garbled", "hello.chain", "hello.version"})
"""What a node is left out for though it sent no answer at all: it cannot be talked to."""


class Nodes:
    """The nodes a light client talks to, none of them trusted."""

    def __init__(self, chain: ChainId, host: Host, peers: Sequence[PeerId]) -> None:
        self.host = host
        self.known = tuple(peers)
        """Those that were connected to in the beginning."""
        self.faults: dict[PeerId, str] = {}
        """Why nodes were left out."""
        self.peers = list(peers)
        """The nodes asked, those that lied left out."""
        self.fork: Refused | None = None
        """Set once two rightly signed chains were seen: from then on nothing is asked, since nothing is sure."""
        self._rpc = RpcClient(host, PROTOCOL, hello=hello(chain))
        self._last_fault = ""

    async def _spread(self, method: str, raw: bytes) -> None:
        """Give the same to all nodes; content once one took it, though the others get a while.

        Raises what two of them, or all there are, refuse it for; `Unreachable` if it may have come somewhere.
        """
        taken: list[PeerId] = []

        async def give(peer: PeerId) -> None:
            await self._call(peer, method, [raw])
            taken.append(peer)

        errors = await self._hear_all(give)
        if taken:
            return
        refusals = [error for error in errors if isinstance(error, Refused)]
        counts = Counter(error.code for error in refusals)
        believed = [error for error in refusals if counts[error.code] >= min(ALONE, len(self._ask_whom()))]
        raise believed[0] if believed else _no_answer(errors)

    async def _hear_all(self, ask: Callable[[PeerId], Awaitable[None]]) -> list[FondacoError]:
        """Ask every node at once, and wait for most of them; what went wrong with some.

        One that spoke is not enough to let the others go, since it may lie; one that hangs does not hold up two.
        """
        errors: list[FondacoError] = []
        spoken = answered = 0

        async def one(peer: PeerId) -> None:
            nonlocal spoken, answered
            wrong: list[FondacoError] = []
            with self.judging(peer, wrong):
                await ask(peer)
                answered += 1
            errors.extend(wrong)
            if not wrong or isinstance(wrong[0], Refused):
                spoken += 1
                grace_s = SPREAD_GRACE_S if answered and spoken >= ALONE else limits.WITNESS_MS / 1_000
                scope.deadline = min(scope.deadline, trio.current_time() + grace_s)

        asked = self._ask_whom()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for peer in asked:
                    nursery.start_soon(one, peer)
        return errors

    async def _call(
        self, peer: PeerId, method: str, params: list[Any], *, timeout_ms: int = limits.REQUEST_TIMEOUT_MS
    ) -> Any:
        return await self._rpc.call(peer, method, params, timeout_ms=timeout_ms)

    async def _until_answered(self, ask: Callable[[PeerId], Awaitable[T]]) -> T:
        """As `_first`, over and over while nobody answers: nodes restart, and connections are made again."""
        while True:
            try:
                return await self._first(ask)
            except Unreachable as error:
                if not self.peers:
                    raise
                log.info("asking again: %s", error)
                await trio.sleep(RETRY_PAUSE_S)

    async def _first(self, ask: Callable[[PeerId], Awaitable[T]]) -> T:
        """Ask all nodes at once and take the first good answer; a node at fault is left out from then on."""
        results: list[T] = []
        errors: list[FondacoError] = []
        asked = self._ask_whom()

        async def one(peer: PeerId) -> None:
            with self.judging(peer, errors):
                results.append(await ask(peer))
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for peer in asked:
                nursery.start_soon(one, peer)
        if results:
            return results[0]
        self._ask_whom()  # says so if it was the last one's fault
        refused = next((error for error in errors if isinstance(error, Refused)), None)
        raise refused or _no_answer(errors)

    async def _tell_everybody(self, fork: Fork) -> None:
        """Give a fork to every node, which makes evidence of it; a word to whoever lied is lost, and no matter."""

        async def tell(peer: PeerId) -> None:
            with contextlib.suppress(FondacoError):
                await self._call(peer, "report_fork", [codec.encode(fork)])

        with trio.move_on_after(SPREAD_GRACE_S):
            async with trio.open_nursery() as nursery:
                for peer in self.peers:
                    nursery.start_soon(tell, peer)

    def _ask_whom(self) -> list[PeerId]:
        """Raises `Unreachable` `light.all_lied` when nobody is left, or `Refused` `light.fork`."""
        if self.fork is not None:
            raise self.fork
        if not self.peers:
            raise Unreachable(
                "light.all_lied",
                f"every node was found out and none is left to ask; the last one: {self._last_fault}",
                hint="connect to other nodes of the network",
            )
        return list(self.peers)

    @contextlib.contextmanager
    def judging(self, peer: PeerId, errors: list[FondacoError] | None = None) -> Iterator[None]:
        """What goes wrong with one node is no reason to give up on the others; one at fault is asked no more."""
        try:
            yield
        except FondacoError as error:
            if isinstance(error, PeerFault) or error.code in BROKEN:
                log.warning("%s is left out: %s", peer, error)
                self._last_fault = str(error)
                self.faults.setdefault(peer, str(error))
                self.peers = [other for other in self.peers if other != peer]
            else:
                log.info("%s: %s", peer, error)
            if errors is not None:
                errors.append(error)


def _no_answer(errors: Sequence[FondacoError]) -> Unreachable:
    return Unreachable("light.no_answer", f"no node answered: {'; '.join(map(str, errors[:3]))}")


def bytes_of(raw: Any) -> bytes:
    """Raises `PeerFault` `light.answer` for an answer that is not even bytes."""
    if type(raw) is not bytes:
        raise PeerFault("light.answer", f"an answer comes as bytes, not as {type(raw).__name__}")
    return raw
