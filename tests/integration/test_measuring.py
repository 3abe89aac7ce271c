"""Bidders measured for an order, over real connections: who is chosen, what is told, what is not waited for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.bidders import Bidders, bidders
from tests.support.network import address, echo, until
from tests.support.slow_link import slow_link

from fondaco.node import clock
from fondaco.node.network import ping
from fondaco.node.network.ping import PROTOCOL
from fondaco.node.tenant import bounds, vantages
from fondaco.node.tenant.choosing import choice
from fondaco.node.tenant.latency_memory import LatencyMemory
from fondaco.node.tenant.ordering import Draft
from fondaco.node.tenant.vantages import HERE, Measured, Run, Vantage
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid
from fondaco.protocol.scalars import ChainId, Millis

SLOW_MS = 160
BOUND_MS = 100
"""Far from either, for the machine may be busy."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings at the real pace take a second for each measurement."""

    async def faster(*args: Any) -> Any:
        return await round_trips(*args, pace_ms=10)

    round_trips = ping.round_trips
    monkeypatch.setattr("fondaco.node.tenant.probing.round_trips", faster)


def measured(reason: str) -> int:
    """The figure that a bound on the 95th percentile was held against."""
    _, _, told = reason.partition(f"latency.p95 < {BOUND_MS}: it is ")
    return int(told.partition(";")[0])


async def test_fastest_takes_the_dearer_one_that_is_near_and_says_why(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:
        ranking = await here.order(choice("fastest"))
        assert here.names(ranking) == ["petra", "paul"]
        near, far = (int(reason.split()[0]) for reason in here.reasons(ranking).values())
        assert near < BOUND_MS < SLOW_MS <= far
        assert ranking.explain()[0].endswith(" % below the maximum")
        assert f"chosen: {near} ms for 95 of 100" in ranking.explain()[0]
        assert here.told() == ["known of 2 of 2 that bid"]
        assert here.pinged() == {"paul": bounds.LATENCY_PROBES, "petra": bounds.LATENCY_PROBES}


async def test_a_bound_sets_aside_whoever_is_too_far_with_its_figure(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:
        ranking = await here.order(choice("cheapest", f"latency.p95 < {BOUND_MS}"))
        assert here.names(ranking) == ["petra"]
        assert measured(here.aside(ranking)["paul"]) >= SLOW_MS
        assert here.aside(ranking)["paul"].endswith("; 0 of 20 probes lost")


async def test_rules_weigh_what_was_measured(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[weights]\nprice = 0\nlatency = 1\nreliability = 0\naudits = 0\n")
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:
        assert here.names(await here.order(choice(str(rules)))) == ["petra", "paul"]


@pytest.mark.parametrize(("name", "where"), [("cheapest", ""), ("spread", "price < 1000")])
async def test_nobody_is_measured_unless_latency_is_asked_for(tmp_path: Path, name: str, where: str) -> None:
    async with bidders(tmp_path, paul=0, petra=0) as here:
        assert here.names(await here.order(choice(name, where))) == ["paul", "petra"]
        assert here.pinged() == {"paul": 0, "petra": 0}
        assert here.told() == []
        assert not (tmp_path / "latency").exists()


async def test_what_was_measured_lately_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bidders(tmp_path, paul=0, petra=0) as here:
        await here.order(choice("fastest"))
        await here.order(choice("fastest"))
        assert set(here.pinged().values()) == {20}
        monkeypatch.setattr(bounds, "LATENCY_FRESH_MS", -1)
        await here.order(choice("fastest"))
        assert set(here.pinged().values()) == {40}
        kept = LatencyMemory(tmp_path, here.light.chain).load(HERE, now=clock.now())
        assert [len(one.samples) for one in kept.providers.values()] == [40, 40]


async def test_whoever_answered_nothing_is_asked_again_and_is_then_as_fast_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LATENCY_PATIENCE_MS", 10_000)
    async with bidders(tmp_path, paul=0) as here:
        away = "/ip4/127.0.0.1/tcp/9/p2p/" + here.hosts["paul"].peer_id
        gone = await here.order(choice("fastest"), lambda order: [here.bid("paul", order, addresses=(away,))])
        assert here.reasons(gone) == {"paul": "20 of 20 probes lost"}
        back = await here.order(choice("fastest"))
        assert here.reasons(back)["paul"].endswith(" ms for 95 of 100")
        kept = LatencyMemory(tmp_path, here.light.chain).load(HERE, now=clock.now())
        (paul,) = kept.providers.values()
        assert len(paul.runs) == 1, "that it was away says nothing of how fast it is"


async def test_whoever_answers_only_some_probes_matches_no_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ping, "PATIENCE_MS", 300)
    async with bidders(tmp_path, paul=0, petra=0) as here:

        async def three_of_twenty(stream: Any) -> None:
            for number in range(20):
                got = b""
                while len(got) < 32:
                    got += await stream.read(32 - len(got))
                if number < 3:
                    await stream.write(got)
            await trio.sleep(1)

        here.hosts["paul"].handle(PROTOCOL, three_of_twenty)
        ranking = await here.order(choice("cheapest", "latency.p50 < 1000"))
        assert here.names(ranking) == ["petra"]
        assert here.aside(ranking)["paul"] == (
            "latency.p50 < 1000: not known; measured: p50 lost, p95 lost, p99 lost; 17 of 20 probes lost"
        )


async def test_an_order_is_not_held_up_by_a_bidder_that_takes_connections_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LATENCY_PATIENCE_MS", 600)
    async with bidders(tmp_path, paul=0, petra=0) as here, trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, host="127.0.0.1")
        (listener,) = await nursery.start(serve, lambda _: trio.sleep_forever(), 0)
        port = listener.socket.getsockname()[1]
        mute = f"/ip4/127.0.0.1/tcp/{port}/p2p/{here.hosts['paul'].peer_id}"
        ranking = await here.order(
            choice("fastest"),
            lambda order: [here.bid("paul", order, addresses=(mute,)), here.bid("petra", order)],
        )
        assert 0.3 < here.waited_s < 2
        assert here.names(ranking) == ["petra", "paul"]
        assert here.reasons(ranking)["paul"] == "never measured"
        assert here.told() == ["known of 1 of 2 that bid"]
        nursery.cancel_scope.cancel()


async def test_a_peer_is_measured_only_where_it_proves_to_be_that_peer(tmp_path: Path) -> None:
    """paul names the address of petra, who is fast, as that of his own peer."""
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:
        other = here.reached_at["petra"].replace(here.hosts["petra"].peer_id, here.hosts["paul"].peer_id)
        ranking = await here.order(choice("fastest"), lambda order: [here.bid("paul", order, addresses=(other,))])
        assert here.reasons(ranking) == {"paul": "20 of 20 probes lost"}
        assert here.pinged() == {"paul": 0, "petra": 0}


@pytest.mark.parametrize("peer", ["", "0OIl", "nonsense", "1" * 4_000])
async def test_a_bid_may_name_nonsense_for_its_peer(tmp_path: Path, peer: str) -> None:
    async with bidders(tmp_path, paul=0, petra=0) as here:
        ranking = await here.order(
            choice("fastest"), lambda order: [here.bid("paul", order, peer=peer), here.bid("petra", order)]
        )
        assert here.names(ranking) == ["petra", "paul"]
        assert here.reasons(ranking)["paul"] == "20 of 20 probes lost"


async def test_a_provider_that_improves_its_bid_by_another_peer_is_measured_there(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:

        def two_bids(order: Draft) -> list[SignedBid]:
            """paul says first that he is where petra is."""
            petra = here.bid("petra", order).bid
            first = here.bid("paul", order, peer=petra.peer, addresses=petra.addresses)
            return [first, here.bid("paul", order, serial=1, price_per_hour=600), here.bid("petra", order)]

        ranking = await here.order(choice("cheapest", f"latency.p95 < {BOUND_MS}"), two_bids, patience_ms=500)
        assert here.names(ranking) == ["petra"]
        assert measured(here.aside(ranking)["paul"]) >= SLOW_MS


async def test_connections_made_to_measure_are_closed_after_a_while_unless_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LATENCY_LINGER_MS", 500)
    async with bidders(tmp_path, paul=0, petra=0, pia=0) as here:
        host = here.light.host
        paul, petra, pia = (here.hosts[name].peer_id for name in ("paul", "petra", "pia"))
        here.hosts["petra"].handle("/echo/1", echo)
        await host.connect(address(here.hosts["pia"]))
        await here.order(choice("fastest"))
        assert set(host.peers()) >= {paul, petra, pia}
        stream = await host.open_stream(petra, "/echo/1")
        await stream.write(b"still here")
        await until(lambda: not host.is_connected(paul))
        await trio.sleep(0.2)
        assert host.is_connected(petra), "it is in use"
        assert host.is_connected(pia), "it was connected before"
        assert await stream.read() == b"still here"


async def test_a_memory_that_is_damaged_is_told_of_and_put_aside(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=0, petra=0) as here:
        path = LatencyMemory(tmp_path, here.light.chain).path(HERE)
        path.parent.mkdir()
        path.write_bytes(b'{"vantage": "here", "chain"')
        assert here.names(await here.order(choice("fastest")))
        damaged, _ = here.told()
        assert damaged.startswith("what was measured before is not known: latency.file: ")
        assert "line 1, column 28" in damaged
        assert path.with_suffix(".json.damaged").read_bytes() == b'{"vantage": "here", "chain"'
        assert len(vantages.read(path, now=clock.now()).providers) == 2


async def test_a_memory_that_cannot_be_written_keeps_nobody_from_ordering(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=0) as here:
        (tmp_path / "latency").write_text("in the way")
        assert here.names(await here.order(choice("fastest"))) == ["paul"]
        assert here.told()[-1].startswith("what was measured is not kept: latency.disk: ")


# From elsewhere


def vantage_file(
    here: Bidders, name: str, *, chain: str | None = None, peer: str = "", age_ms: int = 0, **took: int
) -> Path:
    """What a place measured of these providers."""
    providers = {
        here.actor(provider).key: Measured(
            peer=peer or here.hosts[provider].peer_id,
            runs=(Run(at=Millis(clock.now() - age_ms), samples=(Millis(ms),) * 20),),
        )
        for provider, ms in took.items()
    }
    path = here.home / f"{name}.json"
    found = Vantage(name=name, chain=ChainId(chain or here.light.chain), providers=providers)
    path.write_bytes(vantages.to_bytes(found))
    return path


async def test_users_elsewhere_are_served_by_whoever_is_near_to_them(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=SLOW_MS, petra=0) as here:
        paris = vantage_file(here, "paris", paul=9, petra=150)
        ranking = await here.order(choice("fastest", "", [paris]))
        assert here.names(ranking) == ["paul", "petra"]
        assert here.reasons(ranking)["paul"] == "9 ms for 95 of 100 from paris"
        assert here.pinged() == {"paul": 0, "petra": 0}
        assert here.told() == ["paris: measured 0 min ago, 2 providers", "known of 2 of 2 that bid"]


async def test_it_is_said_how_old_a_file_is(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    async with bidders(tmp_path, paul=0) as here:
        files = [
            vantage_file(here, "paris", age_ms=5 * hour_ms + 1, paul=9),
            vantage_file(here, "tokyo", age_ms=50 * hour_ms, paul=9),
            vantage_file(here, "oslo"),
        ]
        await here.order(choice("fastest", "", files))
        assert here.told() == [
            "paris: measured 5 h ago, 1 providers",
            "tokyo: measured 2 days ago, 1 providers",
            "oslo: nothing measured, 0 providers",
            "known of 0 of 1 that bid",
        ]


async def test_a_bound_must_hold_from_every_vantage(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=0, petra=0, pia=0) as here:
        paris = vantage_file(here, "paris", paul=9, petra=30, pia=5)
        tokyo = vantage_file(here, "tokyo", paul=90, petra=40)
        ranking = await here.order(choice("fastest", "latency.p95 < 50", [paris, tokyo]))
        assert here.names(ranking) == ["petra"]
        assert here.reasons(ranking) == {"petra": "40 ms for 95 of 100 from tokyo"}
        assert here.aside(ranking)["paul"].startswith("latency.p95 < 50: it is 90; measured: p50 90 ms")
        assert here.aside(ranking)["pia"] == "latency.p95 < 50: not known", "tokyo never measured her"


async def test_what_was_measured_of_another_peer_says_nothing_of_this_one(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=0) as here:
        paris = vantage_file(here, "paris", peer="12D3KooWElsewhere", paul=9)
        ranking = await here.order(choice("fastest", "", [paris]))
        assert here.reasons(ranking) == {"paul": "never measured"}


async def test_a_file_of_another_chain_is_refused_before_anything_is_ordered(tmp_path: Path) -> None:
    async with bidders(tmp_path, paul=0) as here:
        paris = vantage_file(here, "paris", chain="other-1", paul=9)
        with pytest.raises(Refused) as refusal:
            await here.order(choice("fastest", "", [paris]))
        assert refusal.value.code == "latency.chain"
        assert "vantage paris is of chain other-1" in refusal.value.message
        assert here.node.book.open_orders() == []


async def test_a_slow_link_is_slow_for_whoever_connects_again(tmp_path: Path) -> None:
    """The support of these tests, looked at: two peers at one host are at two distances."""
    async with bidders(tmp_path, paul=0) as here, slow_link(address(here.hosts["paul"]), 20) as far:
        began = trio.current_time()
        await here.light.host.connect(far)
        assert trio.current_time() - began > 0.1
