"""Changing a deployment when something is in the way: nothing is lost, and it can be said again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.integration.test_deployment import DEAD, HELLO, Place
from tests.support.chains import Town
from tests.support.light import Full, asking

from fondaco.node import clock
from fondaco.node.keys.sealing import SealingPair
from fondaco.node.tenant import changing, client, records
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.node.tenant.wallet import Keep, Wallet
from fondaco.protocol import manifest, sdl
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.messages import Message, UpdateManifest
from fondaco.protocol.scalars import BlindingSalt, GroupIndex, Hash, MicroCredits

SALT = BlindingSalt(bytes(32))
LOUDER = HELLO.replace(b"PORT=8080", b"PORT=8081")
LARGER = HELLO.replace(b"units: 0.5", b"units: 0.75")
ELSEWHERE = HELLO.replace(b"anywhere:", b"somewhere:")


@asynccontextmanager
async def place(path: Path) -> AsyncIterator[Place]:
    """A lease of the demo's group, of a provider that is nowhere to be found; blocks come as they are needed."""
    town = Town("tenant", "paul")
    tenant, paul = town.actors("tenant", "paul")
    chain = town.open(path / "chain.db")
    node = Full(chain)
    town.grow(chain, paul.registers(sealing_key=SealingPair.from_seed(bytes(32)).key), at=clock.now() - 2_000)
    stack = sdl.parse(HELLO)
    (group,), (asked,) = stack.manifest, stack.groups({})
    order = tenant.order(asked, deposit=MicroCredits(10**8), commitments=(manifest.commitment(SALT, group),))
    opened = tenant.opens(order, paul.bid(order, 900), deposit=10**8)
    town.grow(chain, opened, at=clock.now() - 1_000)
    lease = LeaseFile(
        lease=opened.lease,
        provider=paul.key,
        peer=DEAD.rpartition("/")[2],
        addresses=(DEAD,),
        salt=SALT,
        manifest=manifest.group_to_json(group),
        group=asked,
    )
    file = DeploymentFile(deployment=opened.deployment, name="web", leases=(lease,))
    async with asking(chain, node.methods()) as asked_node, trio.open_nursery() as nursery:
        here = Place(
            Tenant(path, asked_node.client, Wallet(asked_node.client, tenant.signer)), town, node, opened, file
        )
        records.save(here.tenant.folder, file)
        nursery.start_soon(here.mine)
        yield here
        nursery.cancel_scope.cancel()
    chain.close()


def kept(here: Place) -> DeploymentFile:
    (file,) = records.load_all(here.tenant.folder)
    return file


@pytest.mark.parametrize(
    ("text", "code"), [(ELSEWHERE, "update.group"), (LARGER, "manifest.mismatch"), (b"nonsense", "sdl.")]
)
async def test_a_file_that_is_no_update_of_the_lease_changes_nothing(
    tmp_path: Path, text: bytes, code: str
) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(FondacoError) as error:
            await changing.update(here.tenant, here.lease, text)
        assert error.value.code.startswith(code)
        assert kept(here) == here.deployment.file
        record = await here.lease.record()
        assert record is not None
        assert record.version == 1


async def test_an_update_whose_provider_is_away_is_kept_and_handed_over_when_said_again(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(Unreachable) as error:
            await changing.update(here.tenant, here.lease, LOUDER)
        assert error.value.code == "channel.unreachable"
        (lease,) = kept(here).leases
        record = await here.lease.record()
        assert record is not None
        assert record.version == 2
        group = manifest.parse_group(lease.manifest)
        assert manifest.commitment(lease.salt, group) == record.commitment, "the salt is on disk"
        with pytest.raises(Unreachable):
            await changing.update(here.tenant, here.tenant.find("web"), LOUDER)
        record = await here.lease.record()
        assert record is not None
        assert record.version == 2, "the ledger was told once"


async def test_what_the_ledger_refuses_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.tenant.wallet.transact(here.town.actors("tenant")[0].closes(here.opened.lease).messages[0])
        with pytest.raises(Refused) as error:
            await changing.update(here.tenant, here.lease, LOUDER)
        assert error.value.code == "lease.closed"
        assert kept(here) == here.deployment.file


class Silent(Wallet):
    """Whose transactions nobody can say anything of."""

    async def transact(self, *messages: Message, keep: Keep | None = None) -> int:
        assert keep is not None
        keep(b"never sent")
        raise Unreachable("tx.lost", "nobody knows")


async def test_where_nobody_knows_what_became_of_it_the_file_keeps_both_ends(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        tenant = replace(here.tenant, wallet=Silent(here.tenant.light, here.tenant.wallet.signer))
        after = replace(here.lease.file, lease=type(here.lease.file.lease)(b"\x01" * 32))
        message = UpdateManifest(
            deployment=here.opened.deployment, group=GroupIndex(0), commitment=Hash(bytes(32))
        )
        with pytest.raises(Unreachable):
            await changing._say(tenant, here.lease, after, message)
        assert [one.lease for one in kept(here).leases] == [here.lease.file.lease, after.lease]


async def test_what_was_ordered_must_be_on_file_to_be_ordered_again(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.lease.file = replace(here.lease.file, group=None)
        with pytest.raises(Refused) as error:
            await changing.replace_provider(here.tenant, here.lease)
        assert error.value.code == "replace.unknown"


async def test_if_nobody_else_bids_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BID_WINDOW_MS", 100)
    monkeypatch.setattr(client, "BID_PATIENCE_MS", 200)
    async with place(tmp_path) as here:
        with pytest.raises(Refused) as error:
            await changing.replace_provider(here.tenant, here.lease, max_price=1_000_000)
        assert error.value.code == "bids.none"
        assert kept(here) == here.deployment.file
