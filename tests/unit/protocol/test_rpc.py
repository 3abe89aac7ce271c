import pytest

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, Malformed, Refused, Unreachable
from fondaco.protocol.rpc import (
    Call,
    Cancel,
    Credit,
    End,
    Failure,
    FailureKind,
    FromClient,
    FromServer,
    Item,
    Reply,
    failure,
    item_cost,
    pack_plain,
)


@pytest.mark.parametrize(
    "message", [Call(id=1, method="blocks", timeout_ms=100, params=b"\x90"), Cancel(id=2), Credit(id=3, size=10)]
)
def test_what_clients_say_survives_the_codec(message: object) -> None:
    assert codec.decode_union(codec.encode(message), FromClient) == message


@pytest.mark.parametrize(
    "message",
    [
        Reply(id=1, result=b"\xc0"),
        Item(id=1, value=b"\x01"),
        End(id=1),
        Failure(id=1, kind=FailureKind.REFUSED, code="a.b", message="no", hint="try c"),
    ],
)
def test_what_servers_say_survives_the_codec(message: object) -> None:
    assert codec.decode_union(codec.encode(message), FromServer) == message


def test_a_client_cannot_say_what_only_servers_say() -> None:
    with pytest.raises(Malformed):
        codec.decode_union(codec.encode(End(id=1)), FromClient)


@pytest.mark.parametrize("kind", [Refused, Unreachable])
def test_an_error_arrives_as_what_it_was(kind: type[Refused] | type[Unreachable]) -> None:
    arrived: FondacoError = failure(1, kind("escrow.dry", "no money is left", hint="deposit more")).error()
    assert type(arrived) is kind
    assert (arrived.code, arrived.message, arrived.hint) == ("escrow.dry", "no money is left", "deposit more")


def test_an_error_of_any_length_fits_a_message() -> None:
    said = failure(1, Refused("x" * 9000, "\N{SNOWMAN}" * 9000))
    assert codec.decode_union(codec.encode(said), FromServer) == said


def test_values_too_large_for_one_message_are_refused() -> None:
    with pytest.raises(Refused, match=r"rpc\.too_large"):
        pack_plain(b"x" * limits.BLOB_BYTES)


def test_values_are_packed_canonically() -> None:
    assert codec.unpack(pack_plain([1, b"two", None])) == [1, b"two", None]


def test_an_empty_item_costs_credit_too() -> None:
    assert item_cost(b"") == limits.RPC_ITEM_OVERHEAD_BYTES
