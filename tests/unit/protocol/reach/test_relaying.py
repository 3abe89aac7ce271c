"""What a relay grants, and when it says no."""

import pytest

from fondaco.protocol.reach.circuit import Status
from fondaco.protocol.reach.relaying import NotRelayed, RelayBook, Terms

HOUR = 3_600.0


def refusal(call: object, *args: object) -> Status:
    with pytest.raises(NotRelayed) as refused:
        call(*args)  # type: ignore[operator]
    return refused.value.status


def test_a_place_lasts_its_time_and_can_be_kept_longer() -> None:
    book = RelayBook(Terms())
    assert book.reserve("a", "", 0.0) == HOUR
    assert book.reserve("a", "", 1_000.0) == HOUR + 1_000
    assert book.places == 1
    book.connect("x", "", "a", HOUR + 999)
    assert refusal(book.connect, "x", "", "a", HOUR + 1_000) == Status.NO_RESERVATION
    book.reserve("b", "", HOUR + 1_000)
    assert book.places == 1


def test_who_has_no_place_or_hung_up_is_not_led_to() -> None:
    book = RelayBook()
    assert refusal(book.connect, "x", "", "a", 0.0) == Status.NO_RESERVATION
    book.reserve("a", "", 0.0)
    book.forget("a")
    book.forget("a")
    assert refusal(book.connect, "x", "", "a", 0.0) == Status.NO_RESERVATION


def test_places_are_bounded_in_all_and_behind_one_address() -> None:
    book = RelayBook(Terms(reservations=3, reservations_per_address=2))
    for peer in ("a", "b"):
        book.reserve(peer, "203.0.113.1", 0.0)
    assert refusal(book.reserve, "c", "203.0.113.1", 0.0) == Status.RESERVATION_REFUSED
    book.reserve("b", "203.0.113.1", 1.0)
    book.reserve("c", "", 1.0)
    assert refusal(book.reserve, "d", "", 1.0) == Status.RESERVATION_REFUSED
    book.reserve("d", "", HOUR)
    assert book.places == 3


@pytest.mark.parametrize(
    ("terms", "allowed", "asked"),
    [
        (Terms(circuits=2), [("x", "1", "a"), ("y", "2", "b")], ("z", "3", "a")),
        (Terms(circuits_to_peer=2), [("x", "1", "a"), ("y", "2", "a"), ("z", "3", "b")], ("z", "3", "a")),
        (Terms(circuits_from_peer=2), [("x", "1", "a"), ("x", "2", "b"), ("y", "", "b")], ("x", "3", "b")),
        (Terms(circuits_from_address=1), [("x", "1", "a"), ("y", "", "a"), ("y", "", "b")], ("z", "1", "b")),
    ],
)
def test_circuits_are_bounded_in_all_to_a_peer_from_a_peer_and_from_an_address(
    terms: Terms, allowed: list[tuple[str, str, str]], asked: tuple[str, str, str]
) -> None:
    book = RelayBook(terms)
    for target in ("a", "b"):
        book.reserve(target, "", 0.0)
    circuits = [book.connect(*one, 0.0) for one in allowed]
    assert refusal(book.connect, *asked, 0.0) == Status.RESOURCE_LIMIT_EXCEEDED
    for circuit in circuits:
        book.end(circuit)
    assert book.circuits == 0
    book.connect(*asked, 0.0)
    assert book.circuits == 1


def test_a_circuit_carries_no_more_than_its_bytes() -> None:
    book = RelayBook(Terms(circuit_bytes=10))
    book.reserve("a", "", 0.0)
    circuit = book.connect("x", "", "a", 0.0)
    assert circuit.spend(6)
    assert circuit.spend(4)
    assert not circuit.spend(1)
