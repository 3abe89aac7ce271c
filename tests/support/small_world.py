"""A machine with an address that looks public, on an internet of one server: in network namespaces of its own.

Run by `unshare --mount --net python -m tests.support.small_world BACKEND SOCKET HOME LAYOUT IMAGE PASTA`; prints
what workloads with public egress reached, as one object. The server answers on every address of `FAR`, some of
which nobody may reach.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from contextlib import aclosing
from functools import partial
from pathlib import Path

import trio

from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bubblewrap, crun, lifecycle, processes, survey
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.links.outward import own_addresses
from fondaco.provider.runtimes.network import Egress
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import WorkloadSpec

MINE = "93.184.216.10"
LATE = "93.184.216.11"
"""An address that this machine gets while a workload runs."""
FAR = ("93.184.216.1", "8.8.8.8", "10.5.5.5", "172.20.1.1", "192.168.7.7", "100.64.3.3", "169.254.169.254")
PORT = 8080
HOME_PORT = 8081
"""Of a server on all addresses of this machine, those of its loopback included."""
CLONE_NEWNET = 0x40000000
DIAL = """
import json, socket, struct, sys, threading
def dial(host, port, how):
    s = socket.socket()
    s.settimeout(0.7)
    if how == 'device':
        s.setsockopt(socket.SOL_SOCKET, 25, b'net0')
    if how == 'index':
        s.setsockopt(socket.IPPROTO_IP, 50, struct.pack('!I', socket.if_nametoindex('net0')))
    try:
        s.connect((host, port))
        return s.recv(100).decode()
    except OSError:
        return ''
found = {}
def one(place):
    host, port, how = place.split(':')
    found[place] = dial(host, int(port), how)
threading.stack_size(1 << 18)
threads = [threading.Thread(target=one, args=(place,)) for place in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(b'who', ('8.8.8.8', 53))
try:
    found['dns'] = s.recv(100).decode()
except OSError:
    found['dns'] = ''
found['resolv.conf'] = open('/etc/resolv.conf').read()
print(json.dumps(found))
"""
"""`how`: plainly, or past the routes: by naming the interface, which needs no power."""
SERVE = (
    "import socket; s = socket.create_server(('0.0.0.0', 7000)); print('listens', flush=True)\nwhile 1: s.accept()"
)


def build() -> None:
    """Join this process to the machine's network, with a thread that serves in the far one."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    far = subprocess.Popen(["sleep", "600"])
    _ip("link set lo up", "link add name far type veth peer name eth0")
    for address in FAR:
        _ip(f"addr add {address}/{24 if address == FAR[0] else 32} dev far")
    _ip("link set far up")
    server = socket.create_server(("0.0.0.0", PORT))
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.bind(("8.8.8.8", 53))
    there = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.setns(here, CLONE_NEWNET) == 0
    subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{there}", "ip", "link", "set", "eth0", "netns", str(os.getpid())],
        check=True,
        pass_fds=[there],
    )
    far.kill()
    far.wait()
    _ip("link set lo up", f"addr add {MINE}/24 dev eth0", "link set eth0 up", f"route add default via {FAR[0]}")
    home = socket.create_server(("0.0.0.0", HOME_PORT))
    for one in (server, home):
        threading.Thread(target=_answer, args=(one,), daemon=True).start()
    threading.Thread(target=_resolve, args=(resolver,), daemon=True).start()


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def _answer(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client:
            client.sendall(b"here")


def _resolve(resolver: socket.socket) -> None:
    while True:
        _, client = resolver.recvfrom(1_000)
        resolver.sendto(b"resolved", client)


async def look(runtime: EmbeddedRuntime, image: str, home: Path) -> dict[str, object]:
    def spec(code: str) -> WorkloadSpec:
        return WorkloadSpec(
            lease=LeaseId(secrets.token_bytes(32)),
            service="web",
            image=image,
            command=("python3", "-u", "-c", code),
            cpu_milli=1_000,
            memory_bytes=128 * MIB,
        )

    mine, theirs = spec("import time; time.sleep(600)"), spec(SERVE)
    for one in (mine, theirs):
        await runtime.start(one)
    places = [f"{host}:{PORT}:{how}" for host in FAR for how in ("", "device", "index")]
    places += [f"{host}:{HOME_PORT}:{how}" for host in (MINE, "127.0.0.1", "10.77.0.1") for how in ("", "device")]
    places += ["10.77.0.2:7000:device", f"{MINE}:7000:"]
    said = await runtime.exec(mine.id, ["python3", "-c", DIAL, *places], timeout_ms=120_000)
    found: dict[str, object] = json.loads(said.out or said.err)
    _ip(f"addr add {LATE}/32 dev eth0")
    await trio.sleep(0.2)
    said = await runtime.exec(mine.id, ["python3", "-c", DIAL, f"{LATE}:{HOME_PORT}:", f"{FAR[0]}:{PORT}:"])
    found |= json.loads(said.out or said.err)
    surveyed = await survey.egress(runtime, image, own_addresses(), ("8.8.8.8",))
    found["survey"] = f"{surveyed.verdict} {surveyed.seen}"
    found |= await _ends(runtime, mine, home)
    for one in (mine, theirs):
        await runtime.stop(one.id, grace_ms=0)
    found["left"] = _pastas() + [path.name for path in (home / "links").iterdir()]
    return found


async def _ends(runtime: EmbeddedRuntime, mine: WorkloadSpec, home: Path) -> dict[str, object]:
    """With a linker its pastas end; those of others go on."""
    before = len(_pastas())
    state = lifecycle.read_json(home / "links" / mine.lease.hex() / "state.json") or {}
    linker = processes.process(state["pid"])
    assert linker is not None
    linker.send(signal.SIGKILL)
    await lifecycle.gone(linker)
    with trio.move_on_after(5):
        while len(_pastas()) == before:
            await trio.sleep(0.01)
    after = len(_pastas())
    await runtime.link([mine])
    said = await runtime.exec(mine.id, ["python3", "-c", DIAL, f"{FAR[1]}:{PORT}:"])
    return {"pastas": [before, after, len(_pastas())], "again": json.loads(said.out or said.err)}


def _pastas() -> list[str]:
    """Those that this network is outside of: other tests have others."""
    here, found = os.readlink("/proc/self/ns/net"), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().startswith(b"pasta\0") and os.readlink(path / "ns/net") == here:
                found.append(path.name)
        except OSError:
            continue
    return found


async def main(backend: str, podman: str, home: str, layout: str, image: str, pasta: str) -> None:
    egress, sources = Egress(pasta=pasta, dns=("8.8.8.8",)), [LayoutSource(Path(layout))]
    if backend == "podman":
        runtime: EmbeddedRuntime = PodmanRuntime(Path(home), sources, socket=Path(podman), egress=egress)
    else:
        chosen = {"bubblewrap": bubblewrap.find, "crun": crun.find}[backend]()
        runtime = EmbeddedRuntime(Path(home), sources, backend=chosen, egress=egress)
    async with aclosing(runtime):
        try:
            await runtime.probe()
            sys.stdout.write(json.dumps(await look(runtime, image, Path(home))) + "\n")
        finally:
            with trio.CancelScope(shield=True):
                for workload in await runtime.list():
                    await runtime.stop(workload.id, grace_ms=0)


if __name__ == "__main__":
    build()
    trio.run(partial(main, *sys.argv[1:]))
