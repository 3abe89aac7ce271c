"""The runtime over a real API server, its controllers, and a node that runs pods: see `conftest`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes.commands import collect
from fondaco.provider.runtimes.kubernetes.names import namespace_of
from fondaco.provider.runtimes.kubernetes.runtime import KubernetesRuntime
from fondaco.provider.runtimes.port import (
    NAMESPACES,
    Channel,
    Command,
    Link,
    Reason,
    State,
    VolumeKind,
    VolumeMount,
    WorkloadId,
    WorkloadSpec,
)

pytestmark = pytest.mark.kubernetes
Make = Callable[..., WorkloadSpec]
NAPPING = "trap 'exit 7' TERM; echo up; while true; do sleep 0.1; done"


async def lines(runtime: KubernetesRuntime, workload: WorkloadId, **how: Any) -> list[str]:
    return [line.text async for line in runtime.logs(workload, **how)]


async def output(runtime: KubernetesRuntime, workload: WorkloadId, script: str) -> str:
    found = await runtime.exec(workload, ("sh", "-c", script))
    assert found.exit_code == 0, found
    return found.out.decode().strip()


async def test_the_probe_says_what_holds(runtime: KubernetesRuntime) -> None:
    from tests.kubernetes.conftest import PROBED

    found = PROBED[0]
    assert found.backend == "kubernetes"
    assert set(found.namespaces) == set(NAMESPACES)
    assert found.seccomp
    assert found.no_capabilities
    assert found.nested_namespaces_refused
    assert {"cpu", "memory"} <= set(found.hard_limits)


async def test_a_workload_runs_says_something_is_stopped_and_what_it_said_is_kept(
    runtime: KubernetesRuntime, spec: Make
) -> None:
    wanted = spec(NAPPING)
    started = await runtime.start(wanted)
    assert started.state is State.RUNNING
    assert started.definition == wanted.definition
    with pytest.raises(Refused) as caught:
        await runtime.start(wanted)
    assert caught.value.code == "workload.exists"
    while await lines(runtime, wanted.id) != ["up"]:
        await trio.sleep(0.05)
    ended = await runtime.stop(wanted.id, grace_ms=5_000)
    assert ended is not None
    assert (ended.state, ended.exit_code) == (State.EXITED, 7)
    assert await runtime.stop(wanted.id) is None
    assert await lines(runtime, wanted.id) == ["up"]
    await runtime.start(dataclasses.replace(wanted, command=("sh", "-c", "echo second; sleep 100")))
    assert await lines(runtime, wanted.id, previous=True) == ["up"]
    while await lines(runtime, wanted.id) != ["second"]:
        await trio.sleep(0.05)
    await runtime.stop(wanted.id, grace_ms=0)


async def test_an_end_is_told_with_its_code_and_its_reason(runtime: KubernetesRuntime, spec: Make) -> None:
    plain = spec("echo $((6 * 7)); exit 3")
    await runtime.start(plain)
    ended = await runtime.wait(plain.id)
    assert (ended.state, ended.exit_code, ended.reason) == (State.EXITED, 3, None)
    assert await lines(runtime, plain.id, follow=True) == ["42"]
    greedy = spec("exec dd if=/dev/zero of=/dev/null bs=256M count=1", service="greedy")
    await runtime.start(greedy)
    ended = await runtime.wait(greedy.id)
    assert (ended.exit_code, ended.reason) == (128 + signal.SIGKILL, Reason.MEMORY)


async def test_what_a_crash_leaves_is_found_and_another_providers_is_not(
    runtime: KubernetesRuntime, opened: Callable[[], KubernetesRuntime], spec: Make, config: Any, tmp_path: Path
) -> None:
    from fondaco.node.kubernetes_settings import open_kubernetes
    from fondaco.node.runtime_settings import registries_of

    wanted = spec()
    await runtime.start(wanted)
    again = opened()
    assert [(one.id, one.state) for one in await again.list()] == [(wanted.id, State.RUNNING)]
    stranger = open_kubernetes(config, tmp_path / "stranger", registries_of(config))
    assert await stranger.list() == ()
    await stranger.release(wanted.lease)
    assert [one.state for one in await again.list()] == [State.RUNNING]
    await stranger.aclose()
    await again.stop(wanted.id, grace_ms=0)
    assert await again.list() == ()


async def test_a_lease_that_is_released_leaves_nothing(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec()
    await runtime.start(wanted)
    await runtime.stop(wanted.id, grace_ms=0)
    await runtime.release(wanted.lease)
    cluster = runtime.cluster
    assert await cluster.api.get(f"/api/v1/namespaces/{namespace_of(wanted.lease)}") is None
    await runtime.release(wanted.lease)
    assert runtime.kept() == (wanted.id,)
    await runtime.forget(wanted.id)
    assert runtime.kept() == ()


async def test_words_and_variables_arrive_as_they_are(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec(
        command=("sh", "-c", 'echo "$0|$ODD|$1"; sleep 100', "$(ODD)", "$$x"),
        env=("ODD=first", "ODD=$(HOME) $$ $x"),
    )
    await runtime.start(wanted)
    while not (said := await lines(runtime, wanted.id)):
        await trio.sleep(0.05)
    assert said == ["$(ODD)|$(HOME) $$ $x|$$x"]


async def test_commands_have_input_output_errors_a_code_and_an_end(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec()
    await runtime.start(wanted)
    command = Command(argv=(b"sh", b"-c", b"cat; echo oops >&2; echo $A; exit 5"), env=(b"A=b c",))
    async with runtime.execute(wanted.id, command) as execution:
        await execution.send(b"in\n")
        found = await collect(execution)
    assert (found.exit_code, found.out, found.err) == (5, b"in\nb c\n", b"oops\n")
    missing = await runtime.exec(wanted.id, ("no-such-program",))
    assert missing.exit_code == 127
    assert (await runtime.exec(wanted.id, ("true",))).exit_code == 0
    big = await runtime.exec(wanted.id, ("sh", "-c", "head -c 3000000 /dev/zero"))
    assert big.truncated
    with pytest.raises(Refused) as caught:
        await runtime.exec(WorkloadId(wanted.id.replace("web", "none")), ("true",))
    assert caught.value.code == "workload.gone"


async def test_a_command_ends_with_its_session_and_takes_signals(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec()
    await runtime.start(wanted)
    async with runtime.execute(wanted.id, Command(argv=(b"sh", b"-c", b"sleep 777 & sleep 778"))) as _:
        while "778" not in await output(runtime, wanted.id, "ps"):
            await trio.sleep(0.05)
    assert "77" not in await output(runtime, wanted.id, "ps | grep 'sleep 7[7]' || true")
    async with runtime.execute(wanted.id, Command(argv=(b"sleep", b"779"))) as execution:
        while "779" not in await output(runtime, wanted.id, "ps"):
            await trio.sleep(0.05)
        await execution.signal(signal.SIGTERM)
        assert await execution.wait() == 128 + signal.SIGTERM


async def test_a_terminal_has_a_size(runtime: KubernetesRuntime, spec: Make) -> None:
    from fondaco.protocol.channel_exec import WindowSize

    wanted = spec()
    await runtime.start(wanted)
    command = Command(
        argv=(b"sh", b"-c", b"while read go; do stty size; done"), terminal=WindowSize(rows=31, columns=97)
    )
    heard = b""
    async with runtime.execute(wanted.id, command) as execution:

        async def until(what: bytes) -> None:
            nonlocal heard
            while what not in heard:
                # A node may hear of a size a moment later than of what was typed after it.
                await execution.send(b"go\n")
                data = await execution.receive(Channel.OUT)
                assert data, heard
                heard += data

        await until(b"31 97")
        execution.resize(WindowSize(rows=40, columns=120))
        await until(b"40 120")
        await execution.end_input()
        while await execution.receive(Channel.OUT):
            pass
        assert await execution.wait() == 0


async def test_ports_are_dialled_and_what_does_not_listen_is_told(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec("mkdir /tmp/w; head -c 2000000 /dev/urandom > /tmp/w/big; exec httpd -f -p 80 -h /tmp/w")
    await runtime.start(wanted)
    with pytest.raises(Refused) as caught:
        await runtime.dial(wanted.id, 81)
    assert caught.value.code == "workload.dial"
    while True:
        try:
            stream = await runtime.dial(wanted.id, 80)
            break
        except Refused:
            await trio.sleep(0.05)
    async with stream:
        await stream.send_all(b"GET /big HTTP/1.0\r\n\r\n")
        got = b""
        while data := await stream.receive_some(65_536):
            got += data
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    assert len(body) == 2_000_000


async def test_usage_is_told(runtime: KubernetesRuntime, spec: Make) -> None:
    wanted = spec("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; sleep 100")
    await runtime.start(wanted)
    found = await runtime.stats(wanted.id)
    while found.cpu_ms < 50:
        await trio.sleep(0.1)
        found = await runtime.stats(wanted.id)
    assert 0 < found.memory_bytes < 64 * MIB
    assert found.processes >= 1
    assert found.network is not None


async def test_who_may_not_start_is_told_why(runtime: KubernetesRuntime, spec: Make) -> None:
    for changes, code in (
        ({"image": spec().image.rpartition(":")[0] + ":no-such-tag"}, "image.not_found"),
        ({"command": ("/no/such/program",)}, "runtime.start"),
    ):
        with pytest.raises(Refused) as caught:
            await runtime.start(spec(**changes))
        assert caught.value.code == code, caught.value
        assert await runtime.list() == ()


async def test_volumes_hold_what_they_may_and_more_ends_the_workload(
    runtime: KubernetesRuntime, spec: Make
) -> None:
    volumes = (
        VolumeMount(name="data", path="/data", size_bytes=8 * MIB),
        VolumeMount(name="fast", path="/fast", size_bytes=1 * MIB, kind=VolumeKind.RAM),
    )
    wanted = spec(
        "echo a > /data/a && echo b > /fast/b && cat /data/a /fast/b;"
        "head -c 2000000 /dev/zero > /fast/c; wc -c < /fast/c; sleep 100",
        volumes=volumes,
    )
    await runtime.start(wanted)
    while not (said := await lines(runtime, wanted.id))[-1:] or not said[-1].isdigit():
        await trio.sleep(0.05)
    assert said[:2] == ["a", "b"]
    assert 0 < int(said[-1]) <= 1 * MIB


async def test_what_a_private_registry_and_a_persistent_volume_want_is_asked_for(
    runtime: KubernetesRuntime, spec: Make, config: Any
) -> None:
    """No class of storage is here, perhaps: then the pod waits for its volume, and is given up."""
    login = Login(host=spec().image.partition("/")[0], username="ann", password="word")
    volume = VolumeMount(name="data", path="/data", size_bytes=8 * MIB, persistent=True, storage_class="none-such")
    wanted = spec(login=login, volumes=(volume,))
    with trio.move_on_after(3), pytest.raises(Refused):
        await runtime.start(wanted)
    api, namespace = runtime.cluster.api, namespace_of(wanted.lease)
    pod = await api.get(f"/api/v1/namespaces/{namespace}/pods/web-0")
    assert pod is not None
    assert pod["spec"]["imagePullSecrets"][0]["name"].startswith("pull-")
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "web-0-data"}


async def test_the_links_of_a_lease_are_made_and_changed(
    runtime: KubernetesRuntime, spec: Make, lease: LeaseId
) -> None:
    link = Link(service="db", port=5_432, target_port=80)
    web = spec(service="web", links=(link,))
    db = spec(service="db", linked_from=(("web", link),))
    await runtime.link((web, db))
    api, namespace = runtime.cluster.api, namespace_of(lease)

    async def names() -> tuple[set[str], set[str]]:
        policies = await api.all(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
        services = await api.all(f"/api/v1/namespaces/{namespace}/services")
        return {one["metadata"]["name"] for one in policies}, {one["metadata"]["name"] for one in services}

    assert await names() == ({"closed", "names", "links-web", "links-db"}, {"db"})
    await runtime.link((web, db))
    await runtime.link((dataclasses.replace(web, links=()), dataclasses.replace(db, linked_from=())))
    assert await names() == ({"closed"}, set())


async def test_the_namespace_takes_no_more_than_the_lease_is_for(
    runtime: KubernetesRuntime, spec: Make, lease: LeaseId
) -> None:
    await runtime.link((spec(),))
    await runtime.start(spec())
    with pytest.raises(Refused) as caught:
        await runtime.start(spec(service="second"))
    assert "exceeded quota" in caught.value.message
