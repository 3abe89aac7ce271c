"""A light client among nodes that lie in every way they can: one honest node is enough, liars are found out."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town
from tests.support.honest import NOBODY, Scene, behind, refused
from tests.support.ledger import RICH
from tests.support.light import Asked, Full, asking
from tests.support.network import until

from fondaco.consensus.ledger.params import Params
from fondaco.consensus.light import Bisection
from fondaco.node import clock
from fondaco.node.tenant import headers
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.light import ProvenRecord
from fondaco.protocol.records import PARAMS, Account, key_account
from fondaco.protocol.scalars import MicroCredits, OrderId, Signature, TxId


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def bent_header(proven: ProvenRecord, **changes: Any) -> ProvenRecord:
    signed = proven.block.signed
    bent = replace(signed, header=replace(signed.header, **changes))
    return replace(proven, block=replace(proven.block, signed=bent))


def forged_record(proven: ProvenRecord) -> ProvenRecord:
    rich = Account(credits=MicroCredits(RICH * RICH), stake=codec.decode(proven.value or b"", Account).stake)
    return replace(proven, value=codec.encode(rich))


def denied_record(proven: ProvenRecord) -> ProvenRecord:
    return replace(proven, value=None)


def forged_proof(proven: ProvenRecord) -> ProvenRecord:
    return replace(proven, proof=proven.proof[:-1] + bytes((proven.proof[-1] ^ 1,)))


def another_state(proven: ProvenRecord) -> ProvenRecord:
    return bent_header(proven, state_root=bytes(32))


def wrong_chain(proven: ProvenRecord) -> ProvenRecord:
    return bent_header(proven, chain="another-chain")


def too_few_signatures(proven: ProvenRecord) -> ProvenRecord:
    signed = proven.block.signed
    two = (*signed.certificate.signatures[:2], None, None)
    weak = replace(signed, certificate=replace(signed.certificate, signatures=two))
    return replace(proven, block=replace(proven.block, signed=weak))


def forged_signature(proven: ProvenRecord) -> ProvenRecord:
    signed = proven.block.signed
    three = (*signed.certificate.signatures[:3], Signature(bytes(64)))
    forged = replace(signed, certificate=replace(signed.certificate, signatures=three))
    return replace(proven, block=replace(proven.block, signed=forged))


def own_validators(proven: ProvenRecord) -> ProvenRecord:
    members = proven.block.validators[:1]
    return replace(proven, block=replace(proven.block, validators=members, next_validators=members))


def no_validators(proven: ProvenRecord) -> ProvenRecord:
    return replace(proven, block=replace(proven.block, validators=()))


LIES = [
    forged_record,
    denied_record,
    forged_proof,
    another_state,
    wrong_chain,
    too_few_signatures,
    forged_signature,
    own_validators,
    no_validators,
]
GARBAGE = [None, 7, "text", b"", b"\x93\x01", [], [b"a", [b"b"]], True]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_liar_is_left_out_and_the_honest_answer_taken(scene: Scene, lie: Any) -> None:
    async with asking(scene.chain, scene.lying(lie), scene.honest) as asked:
        with pytest.raises(PeerFault):
            await asked.client._check(asked.peer(0), scene.key, await lied(asked, scene), Account)
        found = await asked.client.record(scene.key, Account)
        assert found is not None
        assert found.credits == RICH + 6


async def lied(asked: Asked, scene: Scene) -> Any:
    return await asked.client._call(asked.peer(0), "record", [scene.key])


async def test_one_honest_node_of_three_is_enough_whatever_the_others_do(scene: Scene) -> None:
    for first, second in zip(LIES[:3], LIES[3:6], strict=True):
        async with asking(scene.chain, scene.lying(first), scene.lying(second), scene.honest) as asked:
            for _ in range(5):
                found = await asked.client.record(scene.key, Account)
                assert found is not None
                assert found.credits == RICH + 6
            assert 2 not in asked.left_out()


async def test_when_all_lie_it_is_said_so_and_nothing_is_believed(scene: Scene) -> None:
    async with asking(scene.chain, *(scene.lying(lie) for lie in (forged_record, forged_proof))) as asked:
        with refused("light.all_lied"):
            await asked.client.record(scene.key, Account)
        assert asked.left_out() == [0, 1]
        for again in (
            lambda: asked.client.record(scene.key, Account),
            lambda: asked.client.wait_record(scene.key, Account, bool),
            lambda: asked.client.outcome(TxId(bytes(32))),
            lambda: asked.client.submit_transaction(b""),
        ):
            with refused("light.all_lied"), trio.fail_after(5):
                await again()


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
async def test_answers_of_no_use_at_all_are_a_fault_and_never_a_crash(scene: Scene, garbage: Any) -> None:
    async def say(peer: str, params: Any) -> Any:
        return garbage

    async def stream(peer: str, params: Any) -> Any:
        yield garbage

    methods = dict.fromkeys(("record", "block", "transaction", "submit_transaction"), say)
    methods |= dict.fromkeys(("watch_record", "watch_order"), stream)
    async with asking(scene.chain, {**methods, "providers": say}) as asked:
        client = asked.client
        for ask in (
            lambda: client.record(scene.key, Account),
            lambda: client.outcome(TxId(bytes(32))),
            lambda: client.wait_record(scene.key, Account, bool),
        ):
            client.peers = [asked.peer(0)]
            with refused("light.all_lied"), trio.fail_after(5):
                await ask()
        client.peers = [asked.peer(0)]
        assert await client.providers() == []
        assert client.peers == ([asked.peer(0)] if garbage == [] else [])
        client.peers = [asked.peer(0)]
        async with client.answers(OrderId(bytes(32))) as answers:
            with trio.fail_after(5):
                assert [one async for one in answers] == []
        assert client.peers == []


async def test_what_one_node_took_does_not_wait_for_one_that_hangs(scene: Scene) -> None:
    async def hang(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    async def take(peer: str, params: Any) -> bytes:
        return b""

    deaf, good = scene.full.methods(submit_transaction=hang), scene.full.methods(submit_transaction=take)
    async with asking(scene.chain, deaf, good) as asked:
        with trio.fail_after(limits.REQUEST_TIMEOUT_MS / 2_000):
            await asked.client.submit_transaction(b"anything")


async def test_a_node_that_stalls_holds_nobody_up(scene: Scene) -> None:
    async def stall(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    stalled = scene.full.methods(record=stall, transaction=stall, block=stall)
    async with asking(scene.chain, stalled, scene.honest) as asked:
        with trio.fail_after(5):
            assert await asked.client.record(scene.key, Account) is not None
    async with asking(scene.chain, stalled) as asked:
        with refused("light.no_answer", "light.behind"), shortened():
            await asked.client.record(scene.key, Account)
        assert asked.left_out() == [], "slow is no lie"


@contextmanager
def shortened() -> Iterator[None]:
    """Requests that are not answered at once never will be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "REQUEST_TIMEOUT_MS", 300)
        yield


async def test_a_record_is_proven_absent(scene: Scene) -> None:
    async with asking(scene.chain, scene.honest) as asked:
        assert await asked.client.record(key_account(NOBODY), Account) is None
        assert await asked.client.record(PARAMS, Params) == scene.chain.genesis.params
        assert asked.client.trusted_time == scene.chain.head.time


async def test_a_node_that_lags_is_waited_for_and_still_checked(scene: Scene) -> None:
    chain = behind(scene, 2)
    async with asking(scene.chain, Full(chain).methods(), scene.honest) as asked:
        for _ in range(5):
            found = await asked.client.record(scene.key, Account, at_least=4)
            assert found is not None
            assert found.credits == RICH + 6
        assert asked.left_out() == [], "honest nodes lag"
    async with asking(scene.chain, Full(chain).methods()) as asked:
        with refused("light.no_answer", "light.behind"), shortened():
            await asked.client.record(scene.key, Account, at_least=4)
    chain.close()


async def test_a_node_that_hides_the_newest_blocks_is_not_taken_for_the_present(scene: Scene) -> None:
    """Its old record is proven, but a header known from others shows that it is long past."""
    hidden = behind(scene, 2)
    late = clock.now() + 5_000
    assert late - hidden.head.time < 3 * scene.chain.genesis.params.heartbeat_ms
    async with asking(scene.chain, Full(hidden).methods(), scene.honest) as asked:
        client = asked.client
        await client.record(scene.key, Account, at_least=4)
        client.peers = [asked.peer(0)]
        with refused("light.no_answer", "light.behind"), shortened():
            await client.record(scene.key, Account)
    hidden.close()


async def test_a_stale_head_is_told_and_a_fresh_one_passes(tmp_path: Path) -> None:
    town = Town("alice", validators=4)
    chain = town.open(tmp_path / "chain.db")
    town.grow(chain, at=clock.now() - 60_000)
    async with asking(chain, Full(chain).methods()) as asked:
        await asked.client.record(PARAMS, Params)
        with refused("light.stale"):
            await asked.client.check_fresh_head(chain.ledger.params.heartbeat_ms)
        town.grow(chain, at=clock.now())
        await asked.client.check_fresh_head(chain.ledger.params.heartbeat_ms)
    chain.close()


async def test_two_headers_of_one_height_are_a_fork(scene: Scene) -> None:
    async with asking(scene.chain, scene.honest, scene.lying(another_state)) as asked:
        await asked.client.record(scene.key, Account)
        asked.client.peers = [asked.peer(1)]
        with refused("light.all_lied"):
            await asked.client.record(scene.key, Account)
        assert "light.fork" in asked.client._last_fault


async def test_headers_between_are_fetched_where_trust_has_moved_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced here by asking for full trust: real sets change too little in a few blocks."""
    monkeypatch.setattr(headers, "Bisection", functools.partial(Bisection, trust_level=(1, 1)))
    async with asking(scene.chain, scene.honest) as asked:
        assert await asked.client.record(scene.key, Account) is not None
        assert asked.client.trusted.height == 4


async def test_waiting_for_a_record_ends_when_it_is_as_wanted(scene: Scene) -> None:
    async with asking(scene.chain, scene.lying(forged_record), scene.honest) as asked:
        async with trio.open_nursery() as nursery:
            found: list[Account | None] = []

            async def wait() -> None:
                found.append(
                    await asked.client.wait_record(
                        scene.key, Account, lambda one: one is not None and one.credits >= RICH + 100
                    )
                )

            nursery.start_soon(wait)
            await until(lambda: asked.left_out() == [0])
            scene.town.grow(scene.chain)
            scene.town.grow(scene.chain, scene.alice.pays(scene.bob, 100), at=clock.now())
            with trio.fail_after(5):
                while not found:
                    await trio.sleep(0.01)
        assert found[0] is not None
        assert found[0].credits == RICH + 106


async def test_a_watch_that_ends_is_begun_again(scene: Scene) -> None:
    begun = 0

    async def watch_record(peer: str, params: Any) -> Any:
        nonlocal begun
        begun += 1
        yield await scene.full.service.record(peer, params)

    async with asking(scene.chain, scene.full.methods(watch_record=watch_record)) as asked:
        with trio.fail_after(5):
            found = await asked.client.wait_record(scene.key, Account, lambda one: begun == 3)
        assert found is not None
