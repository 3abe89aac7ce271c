"""Services of one lease reach each other by name as they are exposed, and nobody else reaches anything."""

from __future__ import annotations

import os
import secrets
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, WITH_PODMAN, Bench

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import lifecycle, processes
from fondaco.provider.runtimes.port import Link, Transport, Workload, WorkloadSpec

SERVER = """
import os, socket, sys, threading
name, port = sys.argv[1], int(sys.argv[2])
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', port))
    while True:
        data, client = s.recvfrom(2000)
        s.sendto(name.encode() + b' ' + data, client)
threading.Thread(target=datagrams, daemon=True).start()
s = socket.create_server(('0.0.0.0', port))
print('listens', flush=True)
def serve(c):
    got = 0
    while data := c.recv(65536):
        got += len(data)
    c.sendall(f'{name} {got}'.encode())
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
"""Answers with its name, and how many bytes it was sent before the client's end."""
ASK = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(':')
    try:
        with socket.create_connection((host, int(port)), 2) as s:
            s.sendall(b'x' * 200_000)
            s.shutdown(socket.SHUT_WR)
            print(place, s.makefile().read() or 'nothing')
    except socket.gaierror:
        print(place, 'unknown')
    except OSError:
        print(place, 'unreached')
"""
ASK_DATAGRAM = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for _ in range(5):
    s.sendto(b'hello', (sys.argv[1], int(sys.argv[2])))
    try:
        print(s.recv(2000).decode())
        break
    except TimeoutError:
        pass
"""
DB = Link(service="db", port=5432, target_port=5432)


class Lease:
    """One lease on a bench: its replicas, and what they say to each other."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.id = LeaseId(secrets.token_bytes(32))
        self.specs: list[WorkloadSpec] = []

    def add(self, service: str, *links: Link, port: int = 5432, replica: int = 0) -> WorkloadSpec:
        spec = self.bench.spec("", lease=self.id, service=service, replica=replica, links=links)
        spec = replace(spec, command=("python3", "-u", "-c", SERVER, f"{service}{replica}", str(port)))
        self.specs.append(spec)
        return spec

    async def start(self, *specs: WorkloadSpec) -> list[Workload]:
        await self.bench.runtime.link(self.specs)
        started = [await self.bench.runtime.start(spec) for spec in specs or self.specs]
        for workload in started:
            await self.bench.line(workload, "listens")
        return started

    async def ask(self, spec: WorkloadSpec, *places: str) -> list[str]:
        return await ask(self.bench, spec, *places)

    def linker(self) -> int | None:
        """The process that links it."""
        state = lifecycle.read_json(self.bench.home / "links" / self.id.hex() / "state.json")
        return None if state is None else state["pid"]


async def ask(bench: Bench, spec: WorkloadSpec, *places: str) -> list[str]:
    """What a client inside `spec` is told by each of `places`."""
    said = await bench.runtime.exec(spec.id, ["python3", "-c", ASK, *places])
    assert said.exit_code == 0, said.err
    return [line.split(" ", 1)[1] for line in said.out.decode().splitlines()]


async def test_a_service_reaches_the_one_that_is_exposed_to_it_and_nothing_else(each_bench: Bench) -> None:
    lease = Lease(each_bench)
    db, web, other = lease.add("db"), lease.add("web", DB), lease.add("other")
    await lease.start()
    assert await lease.ask(web, "db:5432") == ["db0 200000"]
    assert await lease.ask(web, "db:5433", "other:5432") == ["unreached", "unknown"]
    assert await lease.ask(other, "db:5432") == ["unknown"]
    assert await lease.ask(db, "web:5432", "localhost:5432", "db:5432") == ["unknown", "db0 200000", "db0 200000"]
    hosts = (await each_bench.runtime.exec(web.id, ["python3", "-c", "print(open('/etc/hosts').read())"])).out
    address = next(line.split()[0] for line in hosts.decode().splitlines() if line.endswith("\tdb"))
    # The address of a service says nothing to whom it was not given.
    assert await lease.ask(other, f"{address}:5432") == ["unreached"]


@pytest.mark.parametrize("by", ["bubblewrap", "crun", WITH_PODMAN], indirect=True)  # docker has none that waits
async def test_it_is_linked_before_its_program_runs(each_bench: Bench) -> None:
    lease = Lease(each_bench)
    lease.add("db")
    await lease.start()
    spec = replace(lease.add("web", DB), command=("python3", "-c", ASK, "db:5432"))
    lease.specs[-1] = spec
    await each_bench.runtime.link(lease.specs)
    await each_bench.runtime.start(spec)
    with trio.fail_after(PATIENCE_SECONDS):
        await each_bench.runtime.wait(spec.id)
    assert [line.text async for line in each_bench.runtime.logs(spec.id)] == ["db:5432 db0 200000"]


async def test_a_program_that_is_not_there_is_refused_and_leaves_nothing(bench: Bench) -> None:
    lease = Lease(bench)
    spec = replace(lease.add("web", DB), command=("/no/such",))
    with pytest.raises(Refused) as refused:
        await bench.runtime.start(spec)
    assert refused.value.code == "runtime.start"
    assert await bench.runtime.list() == ()
    assert list((bench.home / "links").iterdir()) == []


async def test_both_sides_may_listen_on_the_port_that_one_dials(bench: Bench) -> None:
    lease = Lease(bench)
    links = [Link(service=name, port=80, target_port=8000) for name in ("api", "files")]
    lease.add("api", port=8000)
    lease.add("files", port=8000)
    web = lease.add("web", *links, port=80)
    await lease.start()
    assert await lease.ask(web, "api:80", "files:80", "web:80") == ["api0 200000", "files0 200000", "web0 200000"]


async def test_replicas_take_turns_and_one_that_is_gone_is_passed_over(bench: Bench) -> None:
    lease = Lease(bench)
    for replica in range(2):
        lease.add("db", replica=replica)
    web = lease.add("web", DB)
    await lease.start()
    assert sorted(await lease.ask(web, "db:5432", "db:5432")) == ["db0 200000", "db1 200000"]
    await bench.runtime.stop(lease.specs[0].id, grace_ms=0)
    assert await lease.ask(web, "db:5432", "db:5432") == ["db1 200000", "db1 200000"]
    await lease.start(lease.specs[0])
    assert sorted(await lease.ask(web, "db:5432", "db:5432")) == ["db0 200000", "db1 200000"]
    await bench.runtime.stop(web.id, grace_ms=0)
    await lease.start(web)
    assert sorted(await lease.ask(web, "db:5432", "db:5432")) == ["db0 200000", "db1 200000"]


async def test_datagrams_are_carried_both_ways(bench: Bench) -> None:
    lease = Lease(bench)
    lease.add("dns", port=5300)
    web = lease.add("web", Link(service="dns", port=53, target_port=5300, transport=Transport.UDP))
    await lease.start()
    said = await bench.runtime.exec(web.id, ["python3", "-c", ASK_DATAGRAM, "dns", "53"])
    assert said.out.decode().split() == ["dns0", "hello"]


async def test_another_lease_reaches_nothing_of_it(bench: Bench) -> None:
    one, other = Lease(bench), Lease(bench)
    one.add("db")
    mine = one.add("web", DB)
    theirs = other.add("web", DB)
    await one.start()
    await other.start()
    assert await one.ask(mine, "db:5432") == ["db0 200000"]
    assert await other.ask(theirs, "db:5432") == ["unreached"]


async def test_an_update_links_and_unlinks_without_a_restart(bench: Bench) -> None:
    lease = Lease(bench)
    lease.add("db")
    lease.add("cache", port=6379)
    web = lease.add("web", DB)
    (*_, before) = await lease.start()
    lease.specs[-1] = replace(web, links=(Link(service="cache", port=6379, target_port=6379),))
    await bench.runtime.link(lease.specs)
    assert await lease.ask(web, "cache:6379", "db:5432") == ["cache0 200000", "unknown"]
    assert (await bench.runtime.status(web.id)).pid == before.pid


async def test_links_outlive_the_provider_and_are_not_made_twice(bench: Bench) -> None:
    lease = Lease(bench)
    lease.add("db")
    web = lease.add("web", DB)
    await lease.start()
    pid = lease.linker()
    bench.runtime = bench.again()
    assert await lease.ask(web, "db:5432") == ["db0 200000"]
    await bench.runtime.link(lease.specs)
    assert lease.linker() == pid
    assert await lease.ask(web, "db:5432") == ["db0 200000"]


async def test_a_linker_that_is_killed_is_started_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    lease = Lease(bench)
    lease.add("db")
    web = lease.add("web", DB)
    await lease.start()
    before = lease.linker()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.runtime.watch)
        with trio.fail_after(PATIENCE_SECONDS):
            while await lease.ask(web, "db:5432") != ["db0 200000"]:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert lease.linker() != before
    assert "was started again" in caplog.text


async def test_nothing_of_it_is_left_when_the_lease_has_ended(each_bench: Bench) -> None:
    lease = Lease(each_bench)
    lease.add("db")
    lease.add("web", DB)
    await lease.start()
    linker = processes.process(lease.linker() or 0)
    assert linker is not None
    made = {
        link for path in Path(f"/proc/{linker.pid}/fd").iterdir() if (link := os.readlink(path)).startswith("net")
    }
    assert len(made) == 3, "two workloads, and what one of them reaches the other through"
    for spec in lease.specs:
        await each_bench.runtime.stop(spec.id, grace_ms=0)
    assert not linker.alive()
    assert list((each_bench.home / "links").iterdir()) == []
    assert not made & namespaces()


def namespaces() -> set[str]:
    """Networks that a process is in, or holds."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(path))
        except OSError:
            continue
    return found


async def test_a_lease_without_links_has_no_linker(bench: Bench) -> None:
    lease = Lease(bench)
    lease.add("db")
    await lease.start()
    assert not (bench.home / "links").exists()
