"""A router before replicas that fail in every way: real sockets; a server on loopback in place of each channel."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import trio
from tests.support.replicas import replicas, routed

from fondaco.node.tenant import bounds
from fondaco.node.tenant.balancing import Change, Health
from fondaco.node.tenant.proxying import COOKIE_NAME
from fondaco.node.tenant.routing import ADDRESS, COOKIE, Router, RouteSettings
from fondaco.protocol.errors import Refused


def router(report: Callable[[Change], None] = lambda _: None, **settings: object) -> Router:
    return Router(RouteSettings(**settings), report=report, uniform=random.Random(3).random)  # type: ignore[arg-type]


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False, verify=False)


async def until(wanted: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not wanted():
            await trio.sleep(0.01)


def name_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.text.split()[0]


async def test_requests_reach_every_replica_and_their_answers_come_back_whole() -> None:
    route = router()
    async with replicas(3) as found, routed(route, found) as port, client(port) as http:
        served = Counter([name_of(await http.get("/")) for _ in range(40)])
        assert set(served) == {"app.0", "app.1", "app.2"}
        assert (await http.get("/chunked")).text.endswith(" GET ")
        assert (await http.head("/")).headers["content-length"]
        assert (await http.post("/", content=b"paid")).text.endswith("POST paid")
        long = b"x" * 3 * bounds.ROUTE_REPLAY_BYTES
        assert (await http.put("/", content=long)).text.endswith(long.decode())

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        assert (await http.post("/", content=pieces())).text.endswith("POST one two")
        assert all(one.connections < len(one.heard) + 4 for one in found), "connections are used again"
        await until(lambda: route.counts.requests == 45)  # the last answer is counted once it was passed on
        assert (route.counts.failed, route.counts.retried) == (0, 0)


async def test_what_concerns_one_connection_is_not_passed_on_and_who_asked_is() -> None:
    async with replicas(1) as found, routed(router(), found) as port, client(port) as http:
        headers = {
            "connection": "x-hop",
            "x-hop": "1",
            "te": "trailers",
            "x-kept": "2",
            "x-forwarded-for": "9.9.9.9",
        }
        name_of(await http.get("/", headers=headers))
        assert found[0].last[b"x-kept"] == b"2"
        assert found[0].last[b"x-forwarded-for"] == b"9.9.9.9, 127.0.0.1"
        assert not {b"x-hop", b"te"} & found[0].last.keys()


@pytest.mark.parametrize("fault", ["away", "head"])
async def test_a_replica_that_fails_before_it_answers_costs_no_get_and_no_put(fault: str) -> None:
    changes = list[Change]()
    route = router(changes.append)
    async with replicas(3) as found, routed(route, found) as port, client(port) as http:
        found[1].away, found[1].breaks = fault == "away", fault if fault != "away" else ""
        answers = [name_of(await http.get("/")) for _ in range(20)]
        answers += [name_of(await http.put("/", content=b"new")) for _ in range(20)]
        assert set(answers) == {"app.0", "app.2"}
        await until(lambda: len(changes) == 1)
        assert changes == [Change(replica="app.1", health=Health.DOWN, failures=2)]
        assert route.counts.failed == 0
        found[1].away, found[1].breaks = False, ""
        await until(lambda: len(changes) == 2)
        assert changes[1] == Change(replica="app.1", health=Health.UP, failures=0)
        assert "app.1" in [name_of(await http.get("/")) for _ in range(40)]


async def test_what_may_not_be_said_twice_is_not_and_the_client_is_told_why() -> None:
    async with replicas(2) as found, routed(router(health_path="/"), found) as port, client(port) as http:
        for one in found:
            one.breaks = "head"
        answer = await http.post("/pay", content=b"10")
        assert answer.status_code == 502
        assert "[route.broken]" in answer.text
        assert "POST is not sent twice" in answer.text
        assert sum("POST /pay" in one.heard for one in found) == 1


async def test_a_post_goes_elsewhere_while_nothing_of_it_was_sent() -> None:
    async with replicas(2) as found, routed(router(), found) as port, client(port) as http:
        found[0].away = True
        answers = [await http.post("/pay", content=b"10") for _ in range(10)]
        assert {name_of(one) for one in answers} == {"app.1"}


async def test_a_kept_connection_that_has_ended_is_no_failure_of_its_replica() -> None:
    route = router()
    async with replicas(1) as found, routed(route, found) as port, client(port) as http:
        name_of(await http.get("/"))
        await until(lambda: len(route.upstreams["app.0"]._idle) == 1)
        route.upstreams["app.0"].keep(Ended())
        name_of(await http.get("/"))
        assert route.balancer.replicas["app.0"].failed == 0


class Ended(trio.abc.HalfCloseableStream):
    """A connection whose other end is gone."""

    async def send_all(self, data: object) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None: ...

    async def send_eof(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise trio.BrokenResourceError

    async def aclose(self) -> None: ...


async def test_an_answer_that_was_cut_short_ends_the_connection() -> None:
    route = router()
    async with replicas(2) as found, routed(route, found) as port, client(port) as http:
        for one in found:
            one.breaks = "body"
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/")
        assert route.counts.failed == 1


async def test_when_nobody_can_serve_it_the_client_is_told() -> None:
    route = router()
    async with replicas(2) as found, routed(route, found) as port, client(port) as http:
        for one in found:
            one.away = True
        answer = await http.get("/")
        assert answer.status_code == 503
        assert "[route.nobody]" in answer.text
        assert "is away [channel.unreachable]" in answer.text
        assert (await http.get("/", headers={"upgrade": "websocket"})).status_code == 501
    async with routed(router(), []) as port, client(port) as http:
        assert "there is no replica" in (await http.get("/")).text


async def test_what_is_no_request_is_refused() -> None:
    async with replicas(1) as found, routed(router(), found) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"\x00nonsense\r\n\r\n")
            assert b"[route.request]" in b"".join([piece async for piece in stream])
        assert found[0].heard == []


async def test_an_answer_that_does_not_come_is_asked_for_elsewhere() -> None:
    async with replicas(2) as found, routed(router(answer_s=0.2), found) as port, client(port) as http:
        found[0].delay_s = 30
        assert {name_of(await http.get("/")) for _ in range(6)} == {"app.1"}


async def test_a_replica_that_answers_500_is_passed_on_but_probes_take_it_out() -> None:
    changes = list[Change]()
    route = router(changes.append)
    async with replicas(2) as found, routed(route, found) as port, client(port) as http:
        found[0].breaks = "status"
        route.balancer.replicas["app.0"].probe_at = 0
        await until(lambda: len(changes) == 1)
        assert changes[0].replica == "app.0"
        assert name_of(await http.get("/")) == "app.1"


async def test_clients_come_back_to_their_replica_by_cookie_and_are_moved_when_it_is_gone() -> None:
    async with replicas(3) as found, routed(router(sticky=COOKIE), found) as port, client(port) as http:
        first = await http.get("/")
        name = name_of(first)
        assert first.cookies[COOKIE_NAME] == name
        again = [await http.get("/") for _ in range(10)]
        assert {name_of(one) for one in again} == {name}
        assert not any(one.headers.get("set-cookie") for one in again)
        next(one for one in found if one.name == name).away = True
        for one in found:
            if one.name == name:
                one.breaks = "head"
        moved = await http.get("/")
        assert name_of(moved) != name
        assert moved.cookies[COOKIE_NAME] == name_of(moved)


async def test_clients_come_back_to_their_replica_by_address() -> None:
    async with replicas(3) as found, routed(router(sticky=ADDRESS), found) as port:
        served = set[str]()
        for _ in range(8):
            async with client(port) as http:
                served.add(name_of(await http.get("/")))
        assert len(served) == 1


async def test_another_lease_takes_over_without_a_request_lost() -> None:
    route = router()
    async with replicas(3) as found, routed(route, found[:2]) as port, client(port) as http:
        slow = list[httpx.Response]()

        async def ask_slow() -> None:
            async with client(port) as other:
                slow.append(await other.get("/slow"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_slow)
            await until(lambda: any("GET /slow" in one.heard for one in found))
            route.update({"app.0": found[2].upstream("another"), "app.1": found[2].upstream("yet another")})
            assert {name_of(await http.get("/")) for _ in range(10)} == {"app.2"}
            for one in found:
                one.release.set()
        assert name_of(slow[0]) in ("app.0", "app.1"), "what was under way came to its end"


async def test_draining_lets_requests_end_and_takes_no_more() -> None:
    route = router()
    async with replicas(1) as found:
        route.update({"app.0": found[0].upstream()})
        async with trio.open_nursery() as nursery:
            port = await nursery.start(route.serve, "127.0.0.1", 0)
            answers, drained = list[httpx.Response](), list[bool]()

            async def ask() -> None:
                async with client(port) as http:
                    name_of(await http.get("/"))
                    answers.append(await http.get("/slow"))

            async def drain() -> None:
                drained.append(await route.drain(10))

            idle = client(port)
            name_of(await idle.get("/"))  # and its connection stays
            nursery.start_soon(ask)
            await until(lambda: "GET /slow" in found[0].heard)
            nursery.start_soon(drain)
            await until(lambda: route.open == 1)
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", port)
            assert drained == []
            found[0].release.set()
            await until(lambda: drained == [True])
            await idle.aclose()
        assert name_of(answers[0]) == "app.0"
        assert answers[0].headers["connection"] == "close"


async def test_draining_does_not_wait_for_ever() -> None:
    route = router()
    async with replicas(1) as found, routed(route, found) as port, trio.open_nursery() as nursery:

        async def ask() -> None:
            async with client(port) as http:
                await http.get("/slow")

        nursery.start_soon(ask)
        await until(lambda: "GET /slow" in found[0].heard)
        assert not await route.drain(0.05)
        nursery.cancel_scope.cancel()


async def test_tcp_connections_go_to_one_that_takes_them_and_stay_there() -> None:
    changes = list[Change]()
    route = router(changes.append, http=False)
    async with replicas(3) as found, routed(route, found) as port, client(port) as http:
        found[0].away = True
        names = list[str]()
        for _ in range(10):
            async with client(port) as other:
                first, second = name_of(await other.get("/")), name_of(await other.get("/"))
                assert first == second, "one connection, one replica"
                names.append(first)
        assert set(names) == {"app.1", "app.2"}
        await until(lambda: [one.replica for one in changes] == ["app.0"])
        for one in found:
            one.away = True
        with pytest.raises(httpx.HTTPError):
            await http.get("/")
        assert route.counts.failed == 1


async def test_no_more_is_carried_at_once_than_there_is_room_and_nobody_is_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "ROUTE_CONNECTIONS", 3)
    route, most = router(), list[int]()
    async with replicas(2) as found, routed(route, found) as port:
        for one in found:
            one.delay_s = 0.02

        async def ask() -> None:
            async with client(port) as http:
                name_of(await http.get("/"))
                most.append(route.open)

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(ask)
        assert len(most) == 12
        assert max(most) <= 3


async def test_a_full_replica_is_passed_over_and_when_all_are_full_one_waits() -> None:
    route = router()
    async with replicas(2) as found, routed(route, found) as port, client(port) as http:
        await until(lambda: all(one.connections for one in found))  # probed
        places = [one.places for one in route.upstreams.values()]
        await until(lambda: all(one.value == bounds.ROUTE_STREAMS_PER_REPLICA for one in places))
        for place in places:
            for _ in range(bounds.ROUTE_STREAMS_PER_REPLICA):
                place.acquire_nowait()
        places[1].release()
        assert name_of(await http.get("/")) == "app.1"
        await until(lambda: places[1].value == 1)
        places[1].acquire_nowait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.get, "/")
            await until(lambda: sum(one.in_flight for one in route.balancer.replicas.values()) == 1)
            for place in places:
                place.release()


async def test_a_path_that_is_none_and_a_replica_that_is_gone_end_no_router() -> None:
    changes = list[Change]()
    route = router(changes.append, health_path="no path")
    async with replicas(1) as found, routed(route, found):
        await until(lambda: len(changes) == 1)
        await route.probe("app.7")
    assert changes[0].health is Health.DOWN


async def test_a_port_that_is_taken_is_said() -> None:
    async with replicas(1) as found:
        with pytest.raises(Refused) as refusal:
            await router().serve("127.0.0.1", found[0].port)
    assert refusal.value.code == "route.listen"


def test_what_is_counted_is_told_of_each_replica() -> None:
    assert router().figures()["replicas"] == {}
