"""Commands through the whole channel: tenant, gateway and a real workload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import NOT_DOCKERS, PATIENCE_SECONDS, Bench
from tests.support.providers import (
    CHAIN,
    OTHER,
    PROVIDER,
    TENANT,
    FakeChain,
    FakeMarket,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    resources,
    web,
)

from fondaco.node.tenant.channel import ChannelClient
from fondaco.node.tenant.executing import RunningCommand
from fondaco.protocol import channel_exec, codec, limits
from fondaco.protocol.capabilities import Capability, Scope, SignedCapability, capability_id
from fondaco.protocol.channel_calls import Revocation
from fondaco.protocol.channel_exec import ExecRequest, Output, Resize, Signal, WindowSize
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.limits import KIB, MIB
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import Millis, Salt
from fondaco.provider.duplex import Duplex
from fondaco.provider.gateway import Gateway

SIZE = WindowSize(columns=80, rows=24)


pytestmark = NOT_DOCKERS


@dataclass
class Wire:
    site: Site
    gateway: Gateway
    lease: Lease

    @property
    def client(self) -> ChannelClient:
        return self.site.client(self.gateway, self.lease)

    async def exec(self, code: str, *, terminal: WindowSize | None = None, **changes: object) -> RunningCommand:
        argv = (b"python3", b"-u", b"-c", code.encode())
        request = ExecRequest(service="web", replica=0, argv=argv, env=(), terminal=terminal)
        return await self.client.exec(replace(request, **changes))  # type: ignore[arg-type]


@pytest.fixture
async def wire(bench: Bench, tmp_path: Path) -> AsyncIterator[Wire]:
    """A lease of the demo image that runs."""
    small = replace(resources(), memory_bytes=256 * MIB)
    group = manifest_group(replace(web(image=bench.image.reference, port=8080), resources=small))
    lease = make_lease(make_order(group), group)
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path / "provider", FakeChain(), FakeMarket(), bench.runtime, nursery)
        site.chain.put(lease)
        async with site.running() as agent:
            wire = Wire(site, Gateway(agent), lease)
            async for _ in wire.client.put_manifest(*hand_off(lease, group)):
                pass
            yield wire
        nursery.cancel_scope.cancel()


async def text(command: RunningCommand, wanted: bytes) -> bytes:
    told = b""
    with trio.fail_after(PATIENCE_SECONDS):
        async for output in command:
            told += output.data
            if wanted in told:
                return told
    raise AssertionError(f"it ended with {told!r}")


async def until_nothing_runs(wire: Wire) -> None:
    """The demo server alone is left."""
    with trio.fail_after(PATIENCE_SECONDS):
        while wire.gateway._commands._taken:
            await trio.sleep(0.01)
        (workload,) = await wire.site.runtime.list()
        while (await wire.site.runtime.stats(workload.id)).processes > 2:  # killed, and not yet gone
            await trio.sleep(0.01)


async def test_megabytes_go_in_and_come_back_in_order_with_the_exit_code(wire: Wire) -> None:
    code = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer); sys.exit(9)"
    command = await wire.exec(code)
    sent = bytes(range(256)) * 16 * KIB
    received = bytearray()

    async def give() -> None:
        await command.send(sent)
        await command.end_input()
        await command.end_input()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give)
        async for output in command:
            assert output.stream == "out"
            received += output.data
    assert bytes(received) == sent
    assert await command.wait() == 9
    await command.send(b"too late, and no error")
    await command.aclose()
    await until_nothing_runs(wire)


async def test_output_and_errors_come_apart_and_on_a_terminal_together(wire: Wire) -> None:
    code = "import sys; print('fine'); print('bad', file=sys.stderr)"
    for terminal, expected in ((None, {"out": b"fine\n", "err": b"bad\n"}), (SIZE, {"out": b"fine\r\nbad\r\n"})):
        command = await wire.exec(code, terminal=terminal)
        told: dict[str, bytes] = {}
        async for output in command:
            told[output.stream] = told.get(output.stream, b"") + output.data
        assert (told, command.exit_code) == (expected, 0)
        await command.aclose()


async def test_sizes_keys_and_signals_reach_the_command(wire: Wire) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGWINCH, lambda *_: print('size', *os.get_terminal_size()))
signal.signal(signal.SIGTERM, lambda *_: print('asked to end'))
try:
    print('ready')
    while True: time.sleep(0.1)  # a signal on the way into a sleep is heard after it
except KeyboardInterrupt:
    raise SystemExit(4)
"""
    command = await wire.exec(code, terminal=SIZE)
    await text(command, b"ready")
    await command.resize(WindowSize(columns=132, rows=43))
    await text(command, b"size 132 43")
    await command.signal(15)
    await text(command, b"asked to end")
    await command.send(b"\x03")
    assert await command.wait() == 4
    await command.aclose()


async def test_who_does_not_read_holds_the_command_up_and_loses_nothing(wire: Wire) -> None:
    code = """
import os, sys
for n in range(64):
    os.write(1, bytes([n]) * 65536)
    print(n, file=open('/tmp/progress', 'w'))
"""
    command = await wire.exec(code)
    first = await command.__anext__()
    await trio.sleep(0.3)
    reader = await wire.exec("print(open('/tmp/progress').read())")
    reached = int(await text(reader, b"\n"))
    assert reached * 64 * KIB < 3 * limits.CHANNEL_WINDOW_BYTES
    data = first.data + b"".join([output.data async for output in command])
    assert data == b"".join(bytes([n]) * 65536 for n in range(64))
    for one in (command, reader):
        await one.aclose()


@pytest.mark.parametrize("how", ["closed", "cancelled", "reset"])
async def test_a_tenant_that_leaves_takes_everything_with_it(wire: Wire, how: str) -> None:
    code = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0)
print('ready')
time.sleep(600)
"""
    command = await wire.exec(code, terminal=SIZE)
    await text(command, b"ready")
    if how == "closed":
        await command.aclose()
    elif how == "reset":
        await command._duplex.stream.reset()
    else:
        with trio.move_on_after(0.05):
            try:
                await command.wait()
            finally:
                await command.aclose()
    await until_nothing_runs(wire)
    with pytest.raises(Unreachable):
        await command.send(b"x")


async def test_a_command_ends_with_its_lease_and_the_tenant_hears_why(wire: Wire) -> None:
    command = await wire.exec("import time; print('ready'); time.sleep(600)")
    await text(command, b"ready")
    wire.site.chain.close(wire.lease.id)
    with trio.fail_after(PATIENCE_SECONDS), pytest.raises(Refused, match=r"lease\.closed"):
        await command.wait()
    assert command.exit_code is None


async def test_a_holders_command_is_killed_when_its_token_is_revoked(wire: Wire) -> None:
    now = wire.site.chain.time
    capability = Capability(
        lease=wire.lease.id,
        audience=PROVIDER.public_key,
        holder=OTHER.public_key,
        scopes=(Scope(method="exec", service="web"),),
        issued_at=now,
        expires_at=Millis(now + 60_000),
        salt=Salt(bytes(16)),
    )
    token = SignedCapability(capability=capability, signature=TENANT.sign(CHAIN, capability))
    holder = wire.site.client(wire.gateway, wire.lease, signer=OTHER, token=token)
    code = b"import time; print('ready'); time.sleep(600)"
    argv = (b"python3", b"-u", b"-c", code)
    command = await holder.exec(ExecRequest(service="web", replica=0, argv=argv, env=(), terminal=None))
    await text(command, b"ready")
    named = Revocation(token=capability_id(CHAIN, capability), expires_at=capability.expires_at)
    assert (await wire.client.revoke([named])).calls_ended == 1
    with pytest.raises(Refused) as error:
        await command.wait()
    assert error.value.code == "capability.revoked"
    await until_nothing_runs(wire)


async def test_commands_of_one_lease_and_of_a_provider_are_bounded(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await wire.exec("import time; time.sleep(600)")
    for name in ("EXECS_PER_LEASE", "EXECS"):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, 1)
            with pytest.raises(Refused, match=r"exec\.busy"):
                await wire.exec("pass")
    await command.aclose()
    await until_nothing_runs(wire)


async def test_what_cannot_be_run_is_refused_by_name(wire: Wire) -> None:
    with pytest.raises(Refused, match=r"exec\.environment"):
        await wire.exec("pass", env=(b"nonsense",))
    for changes in ({"service": "db"}, {"replica": 1}):
        with pytest.raises(Refused, match=r"workload\.unknown"):
            await wire.exec("pass", **changes)
    missing = await wire.exec("", argv=(b"no-such-program",))
    assert b"no-such-program: no such command" in await text(missing, b"\n")
    assert await missing.wait() == 127


async def test_a_tenant_that_breaks_the_rules_loses_its_command(wire: Wire) -> None:
    async def serve(said: object) -> None:
        duplex: Duplex = await wire.client.call(
            channel_exec.EXEC,
            ExecRequest(service="web", replica=0, argv=(b"python3", b"-c", b"input()"), env=(), terminal=None),
        )
        await duplex.send(codec.encode(said))
        with pytest.raises(Refused) as error:
            await duplex.receive()
        codes.append(error.value.code)

    codes: list[str] = []
    faults: list[str] = []
    inner = wire.gateway.serve

    async def judged(stream: object) -> None:
        try:
            await inner(stream)  # type: ignore[arg-type]
        except PeerFault as fault:
            faults.append(fault.code)

    wire.gateway.serve = judged  # type: ignore[method-assign]
    for said in (Resize(size=SIZE), Signal(number=19), Output(stream="out", data=b"")):
        await serve(said)
    assert codes == ["exec.sequence", "exec.range", "codec.type"]
    await until_nothing_runs(wire)
    with trio.fail_after(PATIENCE_SECONDS):
        while len(faults) < len(codes):
            await trio.sleep(0.01)
    assert faults == codes
