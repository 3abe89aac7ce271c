"""Many books, items that reach only some of them, and rounds some of which are lost: they become one."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.book_ids import an_id

from fondaco.protocol.book import answering
from fondaco.protocol.book.digests import BUCKETS, DIGEST_BYTES, Index, ItemId
from fondaco.protocol.book.rounds import Round
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import PeerFault, Refused


class Books:
    """Books in a ring with some chords; every call between two is lost with a certain chance."""

    def __init__(self, count: int, seed: int, *, losses: float) -> None:
        self.chance = random.Random(seed)
        self.losses = losses
        self.books = [Index() for _ in range(count)]
        self.over: list[set[ItemId]] = [set() for _ in range(count)]
        self.neighbours: list[set[int]] = [
            {(each - 1) % count, (each + 1) % count} - {each} for each in range(count)
        ]
        for _ in range(count // 3):
            one, two = self.chance.sample(range(count), 2)
            self.neighbours[one].add(two)
            self.neighbours[two].add(one)

    def round(self, one: int, two: int) -> None:
        """`one` pulls from `two`, until a call is lost."""
        ours, theirs = self.books[one], self.books[two]
        point = ItemId(self.chance.randbytes(16))
        pulling = Round(ours, point=point, over=self.over[one].__contains__)
        while (question := pulling.question()) is not None:
            if self.chance.random() < self.losses:
                return
            for item, _ in pulling.take(self.answer(theirs, question.method, question.params)):
                ours.add(item)

    @staticmethod
    def answer(theirs: Index, method: str, params: list[Plain]) -> Plain:
        if method == "items":
            return answering.items(answering.wanted(params), lambda item: item if item in theirs else b"")
        return answering.digests(theirs, params) if method == "digests" else answering.ids(theirs, params)

    def all_round(self) -> None:
        """Everybody pulls once, from one neighbour by chance."""
        for one, neighbours in enumerate(self.neighbours):
            self.round(one, self.chance.choice(sorted(neighbours)))

    def end(self, item: ItemId, book: int) -> None:
        """It expires here, or is used."""
        if item in self.books[book]:
            self.books[book].remove(item)
        self.over[book].add(item)

    def agree(self) -> bool:
        return len({book.root() for book in self.books}) == 1


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 9),
    items=st.integers(0, 400),
    reach=st.floats(0.05, 1),
    losses=st.floats(0, 0.3),
    seed=st.integers(0, 2**32),
)
def test_books_become_one_in_so_many_rounds_though_calls_are_lost(
    count: int, items: int, reach: float, losses: float, seed: int
) -> None:
    books = Books(count, seed, losses=losses)
    everything = [an_id(number) for number in range(items)]  # a set has another order in each process
    for item in everything:
        books.books[books.chance.randrange(count)].add(item)
        for book in books.books:
            if item not in book and books.chance.random() < reach:
                book.add(item)
    rounds = 0
    while not books.agree():
        books.all_round()
        rounds += 1
        assert rounds <= 500, "they do not become one"
    assert len(books.books[0]) == items


@settings(max_examples=60, deadline=None)
@given(theirs=st.sets(st.integers(0, 300)), ours=st.sets(st.integers(0, 300)), seed=st.integers(0, 2**32))
def test_one_round_without_losses_brings_all_that_the_neighbour_has(
    theirs: set[int], ours: set[int], seed: int
) -> None:
    books = Books(2, seed, losses=0)
    books.books = [Index(map(an_id, ours)), Index(map(an_id, theirs))]
    books.round(0, 1)
    assert books.books[0].root() == Index(map(an_id, ours | theirs)).root()
    books.round(1, 0)
    assert books.agree()


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 7), ended=st.sets(st.integers(0, 49)), seed=st.integers(0, 2**32))
def test_what_is_over_everywhere_does_not_come_back_and_the_rest_stays(
    count: int, ended: set[int], seed: int
) -> None:
    """Everybody learns of the end at another time, as blocks come, and pulls in between."""
    books = Books(count, seed, losses=0.1)
    for number in range(50):
        for book in books.books:
            book.add(an_id(number))
    for number in sorted(ended):
        for each in books.chance.sample(range(count), count):
            books.end(an_id(number), each)
            books.round(each, books.chance.choice(sorted(books.neighbours[each])))
    for _ in range(5):
        books.all_round()
    assert books.agree()
    assert books.books[0].root() == Index(an_id(n) for n in range(50) if n not in ended).root()


@settings(max_examples=200, deadline=None)
@given(
    answers=st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.lists(st.binary(max_size=64), max_size=4),
            st.just(bytes(BUCKETS * DIGEST_BYTES)),
            st.lists(st.integers(0, 50).map(lambda low: bytes([0] * 15 + [low])), min_size=1, max_size=32),
        ),
        max_size=12,
    )
)
def test_whatever_a_neighbour_answers_it_is_an_answer_or_its_fault(answers: list[Plain]) -> None:
    pulling = Round(Index(), point=ItemId(bytes(16)), over=lambda item: False)
    for answer in answers:
        if pulling.question() is None:
            return
        try:
            pulling.take(answer)
        except PeerFault:
            return


ASKED: tuple[Callable[[Index, Plain], Any], ...] = (
    answering.digests,
    answering.ids,
    lambda _, params: answering.wanted(params),
)


@given(params=st.one_of(st.none(), st.lists(st.one_of(st.binary(max_size=80), st.integers()), max_size=3)))
def test_whatever_a_neighbour_asks_is_answered_or_refused(params: Plain) -> None:
    index = Index(map(an_id, range(40)))
    for ask in ASKED:
        with contextlib.suppress(Refused):
            ask(index, params)
