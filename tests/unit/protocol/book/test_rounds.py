"""A round between two books: what is asked, what is answered, and what of it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.book_ids import an_id

from fondaco.protocol import limits
from fondaco.protocol.book import answering, bounds
from fondaco.protocol.book.digests import BUCKETS, DIGEST_BYTES, Index, ItemId
from fondaco.protocol.book.rounds import Question, Round
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import PeerFault, Refused

POINT = ItemId(bytes([200] * 16))
DIGESTS = bytes(BUCKETS * DIGEST_BYTES)


def answer(index: Index, question: Question) -> Plain:
    """What an honest neighbour says; an item is its id."""
    match question.method:
        case "digests":
            return answering.digests(index, question.params)
        case "ids":
            return answering.ids(index, question.params)
        case _:
            asked = answering.wanted(question.params)
            return answering.items(asked, lambda item: item if item in index else b"")


def begin(ours: Index, *, over: set[ItemId] | None = None) -> Round:
    return Round(ours, point=POINT, over=lambda item: over is not None and item in over)


def play(round_: Round, ours: Index, theirs: Index) -> list[str]:
    """To the end; which questions it took."""
    methods = []
    while (question := round_.question()) is not None:
        methods.append(question.method)
        for item, raw in round_.take(answer(theirs, question)):
            assert raw == item
            ours.add(item)
    return methods


def test_equal_books_are_found_equal_by_one_question() -> None:
    ids = [an_id(number) for number in range(100)]
    ours, theirs = Index(ids), Index(ids)
    assert play(begin(ours), ours, theirs) == ["digests"]


def test_what_is_lacking_is_pulled_and_nothing_else() -> None:
    ids = [an_id(number) for number in range(300)]
    ours, theirs = Index(ids[:-3]), Index(ids[5:])
    round_ = begin(ours)
    assert play(round_, ours, theirs) == ["digests", "ids", "items"]
    assert ours.root() == Index(ids).root()
    assert (round_.items, round_.more) == (3, False)
    assert play(begin(ours), ours, theirs) == ["digests", "ids"], "they lack five: that is their affair"


def test_an_empty_book_fills_itself_in_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ROUND_ITEMS", 400)
    ours, theirs = Index(), Index(an_id(number) for number in range(900))
    counts, more = list[int](), True
    while more:
        round_ = begin(ours)
        play(round_, ours, theirs)
        counts.append(len(ours))
        more = round_.more
    assert counts == [512, 900]
    assert ours.root() == theirs.root()


@pytest.mark.parametrize(("limit", "value"), [("ROUND_CALLS", 5), ("ROUND_ITEMS", 1), ("ROUND_BYTES", 4_097)])
def test_a_round_ends_after_so_much_and_says_that_there_is_more(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, limit, value)
    monkeypatch.setattr(bounds, "PULL_ITEMS", 10)
    monkeypatch.setattr(bounds, "LISTED_BUCKETS", 2)
    ours, theirs = Index(), Index(an_id(number) for number in range(900))
    round_ = begin(ours)
    assert len(play(round_, ours, theirs)) <= 5
    assert round_.more
    assert len(ours) <= 20


def test_what_is_over_is_not_pulled() -> None:
    theirs = Index(an_id(number) for number in range(5))
    over = {an_id(number) for number in range(4)}
    ours = Index()
    round_ = begin(ours, over=over)
    assert play(round_, ours, theirs) == ["digests", "ids", "items"]
    assert [number for number in range(5) if an_id(number) in ours] == [4]


def test_what_came_by_gossip_in_the_meantime_is_not_pulled() -> None:
    ours, theirs = Index(), Index([an_id(1)])
    round_ = begin(ours)
    for method in ("digests", "ids"):
        question = round_.question()
        assert question is not None
        assert question.method == method
        round_.take(answer(theirs, question))
    ours.add(an_id(1))
    assert round_.question() is None


def test_what_is_gone_when_it_is_asked_for_is_passed_over() -> None:
    ours, theirs = Index(), Index([an_id(1), an_id(2)])
    round_ = begin(ours)
    for _ in range(2):
        question = round_.question()
        assert question is not None
        round_.take(answer(theirs, question))
    theirs.remove(an_id(1))
    play(round_, ours, theirs)
    assert [an_id(1) in ours, an_id(2) in ours] == [False, True]


def test_what_does_not_fit_one_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PULL_BYTES", 40)
    monkeypatch.setattr(bounds, "LISTED_IDS", 3)
    ours, theirs = Index(), Index(an_id(number) for number in range(8))
    assert play(begin(ours), ours, theirs).count("items") == 4
    assert ours.root() == theirs.root()


def test_a_bucket_of_more_ids_than_are_listed_is_seen_whole_after_some_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "LISTED_IDS", 3)
    theirs = Index(an_id(number, bucket=9) for number in range(20))
    ours, seen = Index(), set[ItemId]()
    for first in range(0, 256, 8):
        point = ItemId(bytes([9, first]) + bytes(14))
        rounds = Round(ours, point=point, over=lambda item: False)
        while (question := rounds.question()) is not None:
            seen.update(item for item, _ in rounds.take(answer(theirs, question)))
    assert len(seen) == 20


def after(*answers: Any) -> Round:
    """A round that got these answers and has asked on."""
    round_ = begin(Index())
    round_.question()
    for each in answers:
        round_.take(each)
        assert round_.question() is not None
    return round_


DIFFERS = bytes(1) + Index().digests()[1:]
"""Digests of somebody who has something in the first bucket."""
LISTED = [bytes(16) + bytes(15) + b"\1"]
MANY = [b"".join(bytes(14) + number.to_bytes(2, "big") for number in range(256))]
"""Ids of the first bucket, as many as may be asked for at once."""


@pytest.mark.parametrize(
    ("before", "garbage"),
    [
        ((), None),
        ((), DIGESTS[1:]),
        ((DIFFERS,), b""),
        ((DIFFERS,), []),
        ((DIFFERS,), [b"", b""]),
        ((DIFFERS,), [1]),
        ((DIFFERS,), [bytes(17)]),
        ((DIFFERS,), [bytes((bounds.LISTED_IDS + 1) * 16)]),
        ((DIFFERS,), [bytes(32)]),
        ((DIFFERS,), [b"\1" + bytes(15)]),
        ((DIFFERS, LISTED), []),
        ((DIFFERS, LISTED), [b"", b"", b""]),
        ((DIFFERS, LISTED), [bytes(limits.GOSSIP_ITEM_BYTES + 1)]),
        ((DIFFERS, MANY), [bytes(limits.GOSSIP_ITEM_BYTES)] * 17),
    ],
)
def test_what_is_no_answer_is_the_neighbours_fault(before: tuple[Any, ...], garbage: Any) -> None:
    with pytest.raises(PeerFault) as fault:
        after(*before).take(garbage)
    assert fault.value.code == "book.answer"


@pytest.mark.parametrize(
    ("ask", "params"),
    [
        (answering.digests, None),
        (answering.digests, []),
        (answering.digests, [1]),
        (answering.digests, [b"short"]),
        (answering.ids, [b"", bytes(16)]),
        (answering.ids, [bytes(bounds.LISTED_BUCKETS + 1), bytes(16)]),
        (answering.ids, [bytes(1), bytes(15)]),
        (lambda _, params: answering.wanted(params), [b""]),
        (lambda _, params: answering.wanted(params), [bytes(17)]),
        (lambda _, params: answering.wanted(params), [bytes(16 * (bounds.PULL_ITEMS + 1))]),
    ],
)
def test_a_question_that_is_none_is_refused(ask: Any, params: Any) -> None:
    with pytest.raises(Refused) as refusal:
        ask(Index(), params)
    assert refusal.value.code == "request.params"
