"""The market of a running node: what is committed and heard goes into the log, and from there into the database.

It works in a thread beside the node. Consensus gives it a block by storing events in the transaction that
stores the block; the book gives it what it took in, through a bounded queue. Whatever goes wrong here, the
chain goes on: the market then stands still, says so in the log, and catches up after a restart.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import trio

from fondaco.consensus.ledger.application import Execution
from fondaco.node import clock
from fondaco.node.book import Book
from fondaco.node.chain import Chain
from fondaco.node.market.index import Index, Tick, open_index
from fondaco.node.market.log import EventLog, RawBlock, RawHeard
from fondaco.node.news import News
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import CommitCertificate, Validator
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.scalars import Height, Millis

log = logging.getLogger("fondaco.market")
LOG, DATABASE = "log.db", "market.db"
DAY_MS = 86_400_000
CUT_EVERY = 1_000
"""Blocks between two looks at how much the log holds."""


class Market:
    """Keeps `log.db` and `market.db` in one folder up to date."""

    def __init__(
        self, chain: Chain, book: Book, folder: Path, days: int, *, cap: int = limits.MARKET_LOG_BYTES
    ) -> None:
        """`days` of blocks are kept at least, 0 for all, and `cap` bytes at most."""
        self._chain = chain
        self.folder = folder
        self.database = folder / DATABASE
        self._days = days
        self._cap = cap
        self._heard: deque[RawHeard] = deque()
        self.shed = 0
        """Heard and not logged, because too much came at once."""
        self.height: Height | None = None
        """Of the newest block in the database."""
        self._news = News()
        chain.keeps_events = True
        chain.listeners.append(self._on_commit)
        book.listeners.append(self._on_heard)

    @property
    def needs(self) -> Height | None:
        """The first block that must stay in the chain's database; None before it is known."""
        return Height(1) if self.height is None else Height(self.height + 1)

    def _on_commit(self, execution: Execution) -> None:
        height = execution.block.header.height
        if height % limits.MARKET_EVENTS_KEPT == 0 and self.height is not None:
            self._chain.store.forget_events(Height(self.height + 1))
        self._news.ring()

    def _on_heard(self, item: GossipItem) -> None:
        if len(self._heard) >= limits.MARKET_HEARD:
            self.shed += 1
            return
        self._heard.append(RawHeard(height=self._chain.head.height, time=clock.now(), raw=codec.encode(item)))
        self._news.ring()

    async def run(self) -> None:
        """Until cancelled, or until the disk refuses."""
        try:
            with ExitStack() as closing:
                work = await trio.to_thread.run_sync(self._open, closing)
                while True:
                    waiting = self._news.next
                    while await self._step(work):
                        pass
                    await waiting.wait()
        except (OSError, sqlite3.Error, FondacoError) as error:
            log.error(
                "the market stands still at height %s until the node is started again: %s", self.height, error
            )

    def _open(self, closing: ExitStack) -> Work:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        event_log = EventLog.open(self.folder / LOG, self._chain.id)
        closing.callback(event_log.close)
        store = ChainStore.view(self._chain.store.path)
        closing.callback(store.close)
        work = Work(store, event_log, self.database, self._days, self._cap)
        closing.callback(work.close)
        work.open(trio.from_thread.check_cancelled)
        return work

    async def _step(self, work: Work) -> bool:
        """Log and index some of what there is; whether there may be more."""
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        more = await trio.to_thread.run_sync(work.step, heard, trio.from_thread.check_cancelled)
        self.height = work.height
        return more or bool(self._heard)


class Work:
    """What the thread does, one step at a time."""

    def __init__(self, store: ChainStore, event_log: EventLog, database: Path, days: int, cap: int) -> None:
        self._store = store
        self._log = event_log
        self._database = database
        self._days = days
        self._cap = cap
        self._index: Index | None = None
        self.height: Height | None = None

    def open(self, tick: Tick) -> None:
        """Open the database, made anew where it must be. Raises `sqlite3.DatabaseError`."""
        self._index = open_index(self._log, self._database, tick)
        self._look()

    def close(self) -> None:
        if self._index is not None:
            self._index.close()

    def step(self, heard: list[RawHeard], tick: Tick) -> bool:
        """Append what was heard and the next blocks to the log, and bring the database there."""
        assert self._index is not None, "opened before"
        heights = self._log.heights()
        after = None if heights is None else heights[1]
        first = self._store.first_events() if after is None else Height(after + 1)
        blocks = [] if first is None else self._blocks(first)
        if not blocks and after is not None and (start := self._gap(after)) is not None:
            log.warning("blocks %d to %d came without their events: the log begins anew", after + 1, start - 1)
            self._log.clear()
            self._rebuild(tick)
            blocks = self._blocks(start)
        self._log.append([*heard, *blocks])
        self._index.catch_up(self._log, tick)
        self._look()
        if any(one.height % CUT_EVERY == 0 for one in blocks):
            self._cut(tick)
        return len(blocks) == limits.MARKET_STEP_BLOCKS

    def _look(self) -> None:
        heights = self._log.heights()
        self.height = None if heights is None else heights[1]

    def _gap(self, after: Height) -> Height | None:
        """Where the chain's events go on, if those of the next block are not there and never will be."""
        head = self._store.head()
        if head is None or head.height <= after or self._store.events(Height(after + 1)) is not None:
            return None
        return self._store.first_events()

    def _blocks(self, first: Height) -> list[RawBlock]:
        stored = self._store.range(first, Height(first + limits.MARKET_STEP_BLOCKS), limits.SYNC_BATCH_BYTES)
        found = list[RawBlock]()
        for one in stored:
            events, block = self._store.events(one.height), self._store.block(one.height)
            if events is None or block is None or one.height != first + len(found):
                break
            signed, total = self._power(one.height, one.certificate)
            found.append(
                RawBlock(
                    height=one.height,
                    time=block.header.time,
                    certificate=one.certificate,
                    body=one.body,
                    events=events,
                    signed_power=signed,
                    total_power=total,
                )
            )
        return found

    def _power(self, height: Height, certificate: bytes) -> tuple[int, int]:
        raw = self._store.validator_set(height)
        assert raw is not None, "the set that decided a block is stored with it"
        members = codec.decode(raw, tuple[Validator, ...])
        signatures = codec.decode(certificate, CommitCertificate).signatures
        signed = sum(one.power for one, given in zip(members, signatures, strict=True) if given is not None)
        return signed, sum(one.power for one in members)

    def _cut(self, tick: Tick) -> None:
        """Forget the oldest blocks, a good part at once, since the database must be made anew without them."""
        heights = self._log.heights()
        assert heights is not None, "a block was just logged"
        first, last = heights
        oldest, newest = map(self._log.time_of, heights)
        below = first
        kept_ms = self._days * DAY_MS
        if kept_ms and newest - oldest > kept_ms * 5 // 4:
            below = self._log.height_at(Millis(newest - kept_ms)) or last
        if self._log.size() > self._cap:
            below = Height(max(below, first + (last - first) // 4))
        if below > first:
            log.info("the log forgets blocks %d to %d", first, below - 1)
            self._log.cut(below)
            self._rebuild(tick)

    def _rebuild(self, tick: Tick) -> None:
        self.close()
        self._index = None
        self._index = open_index(self._log, self._database, tick)
