"""What we make of a server's answers: who is at fault, what is asked again, and where a watch goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.kubernetes_server import Answer, channels, events, hang_up, reply, serving, status

from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.registries import Registries
from fondaco.provider.runtimes.commands import collect
from fondaco.provider.runtimes.kubernetes import client, executing, forward, output
from fondaco.provider.runtimes.kubernetes.cluster import Cluster
from fondaco.provider.runtimes.kubernetes.names import place_of
from fondaco.provider.runtimes.kubernetes.pods import pod
from fondaco.provider.runtimes.kubernetes.runtime import KubernetesRuntime
from fondaco.provider.runtimes.kubernetes.shape import Shape
from fondaco.provider.runtimes.port import AWAY, Channel, Reason, State, WorkloadSpec, workload_id

LEASE = LeaseId(bytes(32))
WEB = workload_id(LEASE, "web")
PLACE = place_of(WEB)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ATTEMPTS_S", (0.0, 0.0))
    monkeypatch.setattr("fondaco.provider.runtimes.kubernetes.cluster.AGAIN_S", (0.0, 0.0))


def a_pod(version: int = 1, **state: Any) -> dict[str, Any]:
    spec = WorkloadSpec(lease=LEASE, service="web", image="web", cpu_milli=1, memory_bytes=1)
    made = pod(spec, "web@sha256:0", None, Shape(provider="00"))
    made["metadata"]["resourceVersion"] = str(version)
    made["status"] = {"phase": "Running", "containerStatuses": [{"state": state}]}
    return made


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


# --- Whose fault it is


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(401, "Unauthorized"), AWAY),
        (status(403, 'pods is forbidden: User "x" cannot create resource "pods"'), AWAY),
        (status(403, "pods is forbidden: violates PodSecurity"), "runtime.kubernetes"),
        (status(422, "invalid"), "runtime.kubernetes"),
        (status(429, "too many"), AWAY),
        (status(500, "etcd has no leader"), AWAY),
        (reply(503, b"<html>"), AWAY),
        (reply(200, b"not JSON"), AWAY),
        (hang_up, AWAY),
    ],
)
async def test_what_keeps_a_server_from_answering_is_not_the_workloads_fault(answer: Answer, code: str) -> None:
    async with serving(answer) as server:
        with pytest.raises(FondacoError) as caught:
            await server.api.create("/pods", {"kind": "Pod"})
    assert caught.value.code == code
    assert isinstance(caught.value, Unreachable if code == AWAY else Refused)


async def test_nobody_listening_is_away() -> None:
    async with serving(hang_up) as server:
        pass
    with pytest.raises(Unreachable) as caught:
        async with server.api.stream("/pods", read_s=1):
            pytest.fail("nobody answers")
    assert caught.value.code == AWAY


async def test_what_may_go_well_another_time_is_asked_again() -> None:
    made = reply(201, {"made": True})
    for trouble in (status(429, retry_after="0"), status(500), status(403, "exceeded quota: lease"), status(409)):
        async with serving(trouble, trouble, made) as server:
            assert await server.api.create("/pods", {}) == {"made": True}
            assert len(server.asked) == 3
    async with serving(status(409, reason="AlreadyExists")) as server:
        assert await server.api.create("/pods", {}) is None
        assert len(server.asked) == 1
    async with serving(status(404)) as server:
        assert await server.api.get("/pods/x") is None
        assert await server.api.delete("/pods/x") is None


async def test_a_list_comes_in_pages_and_anew_where_a_page_came_too_late() -> None:
    first = reply(200, {"items": [{"a": 1}], "metadata": {"continue": "more"}})
    last = reply(200, {"items": [{"a": 2}], "metadata": {}})
    async with serving(first, status(410, "too old"), first, last) as server:
        assert await server.api.all("/pods") == [{"a": 1}, {"a": 2}]
    assert "continue=more" in server.asked[3]


# --- Watching


async def test_a_workload_is_waited_for_through_broken_watches_and_servers_that_are_away() -> None:
    found, too_old = reply(200, a_pod(5, **RUNNING)), {"type": "ERROR", "object": {"code": 410}}
    answers = (
        *(found, events({"type": "MODIFIED", "object": a_pod(6, **RUNNING)}, broken=True)),
        *(status(503), status(503), status(503), hang_up),
        *(found, events(too_old)),
        *(found, events({"type": "BOOKMARK", "object": {}})),
        *(found, events({"type": "MODIFIED", "object": a_pod(7, **KILLED)})),
    )
    async with serving(*answers) as server:
        ended = await Cluster(server.api).ended(WEB)
    assert (ended.state, ended.exit_code, ended.reason) == (State.EXITED, 137, Reason.MEMORY)
    assert "resourceVersion=5" in server.asked[-1]


async def test_a_pod_that_is_gone_is_lost_and_one_that_never_was_is_unknown() -> None:
    gone = events({"type": "DELETED", "object": a_pod(6, **RUNNING)})
    async with serving(reply(200, a_pod(5, **RUNNING)), gone) as server:
        ended = await Cluster(server.api).ended(WEB)
    assert (ended.state, ended.exit_code) == (State.LOST, None)
    async with serving(status(404)) as server:
        with pytest.raises(Refused) as caught:
            await Cluster(server.api).ended(WEB)
    assert caught.value.code == "workload.unknown"


async def test_a_log_is_read_in_whole_lines_and_long_ones_in_parts() -> None:
    long = b"x" * 40_000
    said = b"2026-01-01T00:00:00.000000001Z one\n2026-01-01T00:00:01Z " + long + b"\n"
    async with serving(reply(200, said)) as server:
        lines = [line async for _, line in output.read(server.api, *PLACE)]
    assert lines[0].text == "one"
    assert "".join(line.text for line in lines[1:]) == long.decode()
    assert [line.partial for line in lines[1:]] == [True, True, False]


async def test_a_server_that_goes_away_in_the_middle_of_a_stop_is_away_and_nothing_is_kept(tmp_path: Path) -> None:
    said = reply(200, b"2026-01-01T00:00:00Z said\n")
    async with serving(reply(200, a_pod(5, **RUNNING)), said, status(503)) as server:
        shape = Shape(provider="00")
        runtime = KubernetesRuntime(tmp_path, Cluster(server.api), Registries(), shape, probe_image="busybox")
        with pytest.raises(Unreachable) as caught:
            await runtime.stop(WEB)
        assert caught.value.code == AWAY
        assert runtime.kept() == ()


# --- Channels


async def test_a_connection_carries_bytes_both_ways_and_answers_pings() -> None:
    port = (80).to_bytes(2, "little")
    answer = channels((0, port), (1, port), (0, b"hello"), None, (0, b"said HEARD"), hear=1)
    async with serving(answer) as server:
        stream = await forward.dial(server.api, *PLACE, 80)
        await stream.send_all(b"abc")
        got = b""
        while data := await stream.receive_some(4):
            got += data
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"more")
    assert got == b"hellosaid \x00abc"


async def test_what_nothing_listens_on_is_told_by_the_error_channel() -> None:
    port = (81).to_bytes(2, "little")
    why = b"error forwarding port 81 to pod web: dial tcp4 127.0.0.1:81: connect: connection refused"
    async with serving(channels((0, port), (1, port), (1, why))) as server:
        with pytest.raises(Refused) as caught:
            await forward.dial(server.api, *PLACE, 81)
    assert (caught.value.code, caught.value.message) == ("workload.dial", "connection refused")


@pytest.mark.parametrize(("code", "expected"), [(404, "workload.gone"), (403, AWAY), (502, AWAY)])
async def test_a_connection_that_is_refused_says_whose_fault_it_is(code: int, expected: str) -> None:
    async with serving(status(code, "no")) as server:
        with pytest.raises(FondacoError) as caught:
            await forward.dial(server.api, *PLACE, 80)
    assert caught.value.code == expected


async def test_a_command_hears_its_input_and_its_end_and_tells_its_code() -> None:
    failed = {"status": "Failure", "reason": "NonZeroExitCode"}
    failed |= {"details": {"causes": [{"reason": "ExitCode", "message": "5"}]}}  # type: ignore[dict-item]
    told = (3, json.dumps(failed).encode())
    answer = channels((1, b"out"), (2, b"err"), told, protocol=executing.V5, hear=2)
    async with serving(answer) as server:
        command = await executing._open(server.api, *PLACE, [b"cat"], terminal=False)
        assert command.channels == (Channel.OUT, Channel.ERR)
        await command.send(b"in")
        found = await collect(command)
        await command.aclose()
    assert (found.exit_code, found.out, found.err) == (5, b"out", b"err")
    assert "command=cat" in server.asked[0]


def test_how_a_command_ended_is_read_from_its_last_word() -> None:
    assert executing.exit_code(b'{"status":"Success"}') == 0
    missing = {"status": "Failure", "message": 'exec: "x": executable file not found in $PATH'}
    assert executing.exit_code(json.dumps(missing).encode()) == executing.NOT_FOUND
    with pytest.raises(Unreachable):
        executing.exit_code(b"")
    with pytest.raises(Refused) as caught:
        executing.exit_code(b'{"status":"Failure","message":"container is paused"}')
    assert caught.value.code == "workload.exec"
