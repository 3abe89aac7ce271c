"""What peers tell of others in exchanges: lies are refused and blamed, what is merely old or of no use is not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.support import discovery as made_up
from tests.support.discovery import LOCAL
from tests.support.network import HELLO, address, hosts, seed

from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.host import Host
from fondaco.node.network.peer_exchange import PROTOCOL, Exchange
from fondaco.node.network.peers import Address, PeerId, endpoint
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.peer_record import open_record, seal
from fondaco.protocol.signing import Signer


def own_record(number: int, at: Address, seq: int = 1) -> bytes:
    return seal(Signer(seed(number)), seq, [endpoint(at).multiaddr()])


@contextlib.asynccontextmanager
async def liar(answer: object) -> AsyncIterator[tuple[Host, Exchange, Host]]:
    """Two connected hosts: an honest exchange, and one that answers everything with this."""
    async with hosts(2) as (honest, bad):
        exchange = Exchange(honest, AddressBook(honest.peer_id, seed=1), HELLO, lambda: b"")
        exchange.serve()

        async def lie(_peer: PeerId, _params: object) -> object:
            return answer

        RpcServer(bad, PROTOCOL, {"swap": lie}, hello=HELLO)
        await honest.connect(address(bad))
        yield honest, exchange, bad


def forged() -> bytes:
    data = made_up.record(7, "8.8.8.8")
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "answer",
    [
        [b"", [forged()]],
        [forged(), []],
        [made_up.record(7, "127.0.0.1"), []],
        [b"", [made_up.record(7, "127.0.0.1"), made_up.record(7, "127.0.0.1", seq=2)]],
        [b"", [b"garbage"]],
        [b"", ["text"]],
        [b"", [made_up.record(number, "127.0.0.1") for number in range(bounds.RECORDS_TOLD + 1)]],
        [b""],
        "nothing",
    ],
    ids=["forged", "forged-own", "of-another", "twice", "garbage", "text", "too-many", "short", "nothing"],
)
async def test_what_no_honest_node_answers_is_refused_and_blamed(answer: object) -> None:
    async with liar(answer) as (honest, exchange, bad):
        assert await exchange.ask(bad.peer_id) == 0
        assert honest.counters.peer_faults == 1


async def test_an_older_record_of_the_sender_itself_is_a_replay_and_blamed() -> None:
    async with hosts(2) as (honest, bad):
        book = AddressBook(honest.peer_id, seed=1)
        exchange = Exchange(honest, book, HELLO, lambda: b"")
        exchange.serve()
        client = RpcClient(bad, PROTOCOL, hello=HELLO)
        peer = await bad.connect(address(honest))
        told: list[PeerId] = []
        exchange.on_record = lambda one, _record: told.append(one)
        newer, older = own_record(2, address(bad), seq=5), own_record(2, address(bad), seq=4)
        assert await client.call(peer, "swap", [newer]) == [b"", []]
        with pytest.raises(Unreachable):
            await client.call(peer, "swap", [older])
        assert honest.counters.peer_faults == 1
        entry = book.get(bad.peer_id)
        assert entry is not None
        assert entry.seq == 5
        assert told == [bad.peer_id]


async def test_an_old_record_of_somebody_else_changes_nothing_and_is_nobodys_fault() -> None:
    async with liar([b"", [made_up.record(7, "127.0.0.1", seq=3)]]) as (honest, exchange, bad):
        newer = made_up.record(7, "127.0.0.9", seq=4)
        exchange._book.learn_record(newer, open_record(newer), LOCAL, 0)
        assert await exchange.ask(bad.peer_id) == 0
        entry = exchange._book.get(made_up.peer(7))
        assert entry is not None
        assert entry.record == newer
        assert (honest.counters.peer_faults, exchange.stale) == (0, 1)


async def test_records_that_are_of_no_use_are_passed_over() -> None:
    big = bytes(3_000)
    async with liar([big, [big, made_up.record(7, "127.0.0.1")]]) as (honest, exchange, bad):
        assert await exchange.ask(bad.peer_id) == 1
        assert honest.counters.peer_faults == 0


@pytest.mark.parametrize("params", [[], [1], [b"", b""], "x"])
async def test_questions_that_make_no_sense_are_blamed(params: object) -> None:
    async with hosts(2) as (honest, bad):
        Exchange(honest, AddressBook(honest.peer_id, seed=1), HELLO, lambda: b"").serve()
        peer = await bad.connect(address(honest))
        with pytest.raises(Unreachable):
            await RpcClient(bad, PROTOCOL, hello=HELLO).call(peer, "swap", params)
        assert honest.counters.peer_faults == 1


async def test_who_asks_too_often_is_refused_and_who_brings_too_much_is_not_read() -> None:
    flood = [b"", [made_up.record(number, "127.0.0.1") for number in range(1, 33)]]
    async with liar(flood) as (honest, exchange, bad):
        for _ in range(10):
            await exchange.ask(bad.peer_id)
        assert 0 < exchange.unchecked <= 320 - bounds.RECORDS_PER_SOURCE[0]
        client = RpcClient(bad, PROTOCOL, hello=HELLO)
        for _ in range(bounds.ANSWERS_PER_PEER[0]):
            await client.call(honest.peer_id, "swap", [b""])
        with pytest.raises(Refused, match=r"peers\.budget"):
            await client.call(honest.peer_id, "swap", [b""])
