"""One round: compare with a neighbour, list what differs, pull what is lacking.

    round = Round(index, point=random id, over=lambda item: ...)
    while (question := round.question()) is not None:
        for item, raw in round.take(ask the neighbour question.method, question.params):
            admit raw

A round only pulls; what the neighbour lacks it pulls in a round of its own. Whatever the neighbour answers, a
round ends after so many questions, items and bytes (`bounds.ROUND_*`); what is left waits for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fondaco.protocol import limits
from fondaco.protocol.book import bounds
from fondaco.protocol.book.answering import split
from fondaco.protocol.book.digests import BUCKETS, DIGEST_BYTES, ID_BYTES, Index, ItemId, differing
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import PeerFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    method: str
    params: list[Plain]


class Round:
    """See the module; one `question` and one `take` in turn."""

    def __init__(self, index: Index, *, point: ItemId, over: Callable[[ItemId], bool]) -> None:
        """`over` tells of what must not be pulled though it is lacking."""
        self._index = index
        self._point = point
        self._over = over
        self._compared = False
        self._buckets: list[int] = []
        """That differ and are not listed yet."""
        self._wanted: list[ItemId] = []
        self._asked: list[int] | list[ItemId] | None = None
        """Buckets or ids that the last question was about; None for the first."""
        self._method = ""
        self.calls = 0
        self.items = 0
        """Asked for."""
        self.size = 0
        """Bytes that came."""

    @property
    def more(self) -> bool:
        """Whether something is left for another round."""
        return bool(self._buckets or self._wanted)

    def question(self) -> Question | None:
        """The next one; None at the end of the round."""
        if not self._compared:
            return self._ask("digests", None, [self._index.root()])
        if self.calls >= bounds.ROUND_CALLS or self.items >= bounds.ROUND_ITEMS or self.size >= bounds.ROUND_BYTES:
            return None
        self._wanted = [item for item in self._wanted if self._lacking(item)]
        if self._buckets and len(self._wanted) < bounds.PULL_ITEMS:
            buckets = self._buckets[: bounds.LISTED_BUCKETS]
            return self._ask("ids", buckets, [bytes(buckets), self._point])
        if self._wanted:
            ids = self._wanted[: bounds.PULL_ITEMS]
            self.items += len(ids)
            return self._ask("items", ids, [b"".join(ids)])
        return None

    def _ask(self, method: str, about: list[int] | list[ItemId] | None, params: list[Plain]) -> Question:
        self.calls += 1
        self._method, self._asked = method, about
        return Question(method=method, params=params)

    def _lacking(self, item: ItemId) -> bool:
        return item not in self._index and not self._over(item)

    def take(self, answer: Plain) -> list[tuple[ItemId, bytes]]:
        """What came with the answer to the last question: each item asked for with its bytes, not looked into.

        Raises `PeerFault` `book.answer` for what is no answer to it.
        """
        if self._asked is None:
            self._take_digests(answer)
            return []
        if (
            type(answer) is not list
            or not 1 <= len(answer) <= len(self._asked)
            or any(type(row) is not bytes for row in answer)
        ):
            raise PeerFault("book.answer", f"wanted 1..{len(self._asked)} strings of bytes")
        self.size += sum(map(len, answer))
        if self._method == "ids":
            self._take_ids(answer)
            return []
        return self._take_items(answer)

    def _take_digests(self, answer: Plain) -> None:
        if type(answer) is not bytes or len(answer) not in (0, BUCKETS * DIGEST_BYTES):
            raise PeerFault("book.answer", "wanted the digests of all buckets, or nothing")
        self._compared = True
        self.size += len(answer)
        if answer:
            first = self._point[0]  # not always the same ones are left for the next round
            buckets = differing(self._index.digests(), answer)
            self._buckets = sorted(buckets, key=lambda bucket: (bucket - first) % BUCKETS)

    def _take_ids(self, rows: list[bytes]) -> None:
        if sum(map(len, rows)) > bounds.LISTED_IDS * ID_BYTES:
            raise PeerFault("book.answer", f"more than {bounds.LISTED_IDS} ids")
        buckets, self._buckets = self._buckets[: len(rows)], self._buckets[len(rows) :]
        for bucket, row in zip(buckets, rows, strict=True):
            if len(row) % ID_BYTES:
                raise PeerFault("book.answer", f"ids are {ID_BYTES} bytes each")
            ids = split(row)
            if len(set(ids)) != len(ids) or any(item[0] != bucket for item in ids):
                raise PeerFault("book.answer", "an id twice, or in a bucket that it does not belong to")
            self._wanted += filter(self._lacking, ids)

    def _take_items(self, rows: list[bytes]) -> list[tuple[ItemId, bytes]]:
        asked, self._wanted = self._wanted[: len(rows)], self._wanted[len(rows) :]
        if len(rows) > 1 and sum(map(len, rows)) > bounds.PULL_BYTES:
            raise PeerFault("book.answer", f"more than {bounds.PULL_BYTES} bytes of items")
        if any(len(row) > limits.GOSSIP_ITEM_BYTES for row in rows):
            raise PeerFault("book.answer", f"an item of more than {limits.GOSSIP_ITEM_BYTES} bytes")
        return [(item, raw) for item, raw in zip(asked, rows, strict=True) if raw]
