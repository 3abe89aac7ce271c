"""A tenant's deployment when its provider does not do its part: what is said, and what is at risk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import Town
from tests.support.ledger import Draft, a_group
from tests.support.light import Full, asking

from fondaco.node import clock, demo
from fondaco.node.chain import Chain
from fondaco.node.keys.sealing import SealingPair
from fondaco.node.tenant import deployment as module
from fondaco.node.tenant import serving
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import manifest, reasons, sdl
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import BlindingSalt, MicroCredits

HELLO = demo.HELLO.read_bytes()
DEAD = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"


class Place:
    """A lease that the ledger holds, of a provider that is nowhere to be found."""

    def __init__(self, tenant: Tenant, town: Town, node: Full, opened: Draft, file: DeploymentFile) -> None:
        self.tenant = tenant
        self.town = town
        self.node = node
        self.opened = opened
        self.deployment = Deployment(tenant, file)
        self.lease = self.deployment.leases[0]
        self.told: list[str] = []

    def report(self, progress: Any) -> None:
        self.told.append(progress.step)

    async def mine(self) -> None:
        """Put into blocks what waits, as validators would."""
        while True:
            raws = list(self.node.mempool.candidates())
            if raws:
                self.grow(*raws)
            await trio.sleep(0.005)

    def grow(self, *drafts: Any) -> None:
        chain: Chain = self.node.chain
        self.town.grow(chain, *drafts, at=max(clock.now(), chain.head.time + 1))


@asynccontextmanager
async def place(path: Path) -> AsyncIterator[Place]:
    town = Town("tenant", "paul")
    tenant, paul = town.actors("tenant", "paul")
    chain = town.open(path / "chain.db")
    node = Full(chain)
    town.grow(chain, paul.registers(sealing_key=SealingPair.from_seed(bytes(32)).key), at=clock.now() - 2_000)
    order = tenant.order(a_group(price=1_000), deposit=MicroCredits(10_000))
    opened = tenant.opens(order, paul.bid(order, 900), deposit=10_000)
    town.grow(chain, opened, at=clock.now() - 1_000)
    (group,) = sdl.parse(HELLO).manifest
    file = DeploymentFile(
        deployment=opened.deployment,
        name="web",
        leases=(
            LeaseFile(
                lease=opened.lease,
                provider=paul.key,
                peer=DEAD.rpartition("/")[2],
                addresses=(DEAD,),
                salt=BlindingSalt(bytes(32)),
                manifest=manifest.group_to_json(group),
                group=None,
            ),
        ),
    )
    async with asking(chain, node.methods()) as asked:
        yield Place(Tenant(path, asked.client, Wallet(asked.client, tenant.signer)), town, node, opened, file)
    chain.close()


async def test_a_hand_over_that_fails_says_that_the_deposit_is_in_escrow_and_how_to_end_it(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(Refused) as refusal:
            await here.deployment.hand_over(here.report)
        assert refusal.value.code == "channel.unreachable"
        assert refusal.value.message.endswith("; 0.01 credits are still in escrow")
        assert f"fondaco close {here.lease.id[:12]}" in refusal.value.hint
        assert here.told == []


async def test_what_does_not_serve_is_closed_with_the_reason_and_what_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here, trio.open_nursery() as nursery:
        nursery.start_soon(here.mine)
        monkeypatch.setattr(here.deployment, "hand_over_one", not_serving)
        with pytest.raises(Refused, match=r"credits paid, 0\.0\d+ back") as refusal:
            await here.deployment.hand_over(here.report)
        assert refusal.value.code == "lease.not_serving"
        record = await here.lease.record()
        assert record is not None
        assert (record.state, record.reason) == (LeaseState.CLOSED, reasons.NOT_SERVING)
        assert here.told == ["closing"]
        nursery.cancel_scope.cancel()


async def test_where_what_does_not_serve_cannot_be_closed_either_the_escrow_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:

        async def away(**_: object) -> None:
            raise Unreachable("light.no_answer", "no node answered")

        monkeypatch.setattr(here.deployment, "hand_over_one", not_serving)
        monkeypatch.setattr(here.deployment, "close", away)
        with pytest.raises(Refused) as refusal:
            await here.deployment.hand_over(here.report)
        assert refusal.value.code == "lease.not_serving"
        assert refusal.value.message.endswith("; 0.01 credits are still in escrow")
        assert f"fondaco close {here.lease.id[:12]}" in refusal.value.hint


async def not_serving(*_: object) -> None:
    raise Refused(serving.NOT_SERVING, "it does not serve")


async def test_a_lease_that_the_ledger_does_not_hold_is_not_handed_over(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        stranger = replace(here.lease.file, provider=here.tenant.wallet.signer.public_key)
        file = replace(here.deployment.file, leases=(stranger,))
        with pytest.raises(Refused) as refusal:
            await Deployment(here.tenant, file).hand_over(here.report)
        assert refusal.value.code == "provider.unknown"


async def test_a_provider_that_never_comes_up_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDOFF_TIMEOUT_S", 0.3)
    async with place(tmp_path) as here:

        async def nothing(*_: object) -> None:
            return

        monkeypatch.setattr(here.deployment, "_put_manifest", nothing)
        with pytest.raises(Refused) as refusal:
            await here.deployment.hand_over(here.report)
        assert refusal.value.code == "handoff.timeout"


async def test_a_lease_that_ended_before_it_was_activated_is_told(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        tenant = here.town.actors("tenant")[0]
        here.grow(tenant.closes(here.opened.lease))
        with pytest.raises(Refused) as refusal:
            await here.deployment._active(here.lease)
        assert refusal.value.code == "lease.not_activated"


async def test_closing_settles_and_shows_what_was_paid_and_what_came_back(tmp_path: Path) -> None:
    async with place(tmp_path) as here, trio.open_nursery() as nursery:
        nursery.start_soon(here.mine)
        settled = await here.lease.close(reason=3)
        assert settled.paid == 0
        assert 0 < settled.refunded <= 10_000
        assert settled.reason == 3
        with pytest.raises(Refused):
            await here.lease.close()
        nursery.cancel_scope.cancel()


async def test_a_close_that_only_a_node_claims_is_not_believed(tmp_path: Path) -> None:
    async with place(tmp_path) as here, trio.open_nursery() as nursery:
        nursery.start_soon(here.mine)
        elsewhere = replace(here.deployment.file, deployment=here.opened.deployment[::-1])  # type: ignore[arg-type]
        handle = LeaseHandle(Deployment(here.tenant, elsewhere), here.lease.file)
        with pytest.raises(Refused) as refusal:
            await handle.close()
        assert refusal.value.code == "lease.unproven"
        nursery.cancel_scope.cancel()


async def test_the_main_port_is_the_first_one_open_to_the_world(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        assert here.lease.main_port() == ("web", 8080)
        inner = b"      - port: 9090\n        to:\n          - service: web\n"
        inward = HELLO.replace(b"      - port: 8080\n", inner + b"      - port: 8080\n")
        (group,) = sdl.parse(inward).manifest
        file = replace(here.lease.file, manifest=manifest.group_to_json(group))
        assert LeaseHandle(here.deployment, file).main_port() == ("web", 8080)


async def test_a_workload_without_ports_is_not_probed_but_asked_about(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        (service,) = here.lease.group.services
        group = replace(here.lease.group, services=(replace(service, expose=()),))
        lease = LeaseHandle(here.deployment, replace(here.lease.file, manifest=manifest.group_to_json(group)))
        with pytest.raises(Refused) as refusal:
            lease.main_port()
        assert refusal.value.code == "lease.no_port"
        with pytest.raises(Unreachable):
            await lease.status()
