"""Tokens on their way: made and kept by a tenant, read by a holder, and held against the ledger first."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_changing import place
from tests.integration.test_deployment import Place

from fondaco.node import clock
from fondaco.node.keys.keystore import Cost, Keystore
from fondaco.node.tenant import sharing
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import addresses, channel_bounds
from fondaco.protocol.capabilities import SignedCapability
from fondaco.protocol.channel_calls import Revocation, Revoked
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Millis
from fondaco.protocol.signing import Signer

HOUR_MS = 3_600_000
COLLEAGUE = Signer(b"c" * 32)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as found:
        yield found


def issued(here: Place, *scopes: str, hours: int = 1) -> sharing.Token:
    return sharing.issue(here.lease, COLLEAGUE.public_key, scopes or ("logs",), life_ms=hours * HOUR_MS)


def colleague(here: Place, home: Path) -> Tenant:
    return Tenant(home, here.tenant.light, Wallet(here.tenant.light, COLLEAGUE))


async def test_a_token_survives_its_file_and_leads_its_holder_to_the_provider(here: Place, tmp_path: Path) -> None:
    token, file = issued(here, "exec:web", "logs"), tmp_path / "web.token"
    sharing.save(file, token)
    assert file.stat().st_mode & 0o777 == 0o600
    assert sharing.load(file) == token
    shared = await sharing.open_shared(colleague(here, tmp_path), sharing.load(file))
    assert (shared.id, shared.name, shared.group) == (here.lease.id, "web", None)
    assert shared.place.provider == here.lease.file.provider
    assert (shared.main_port(), shared.main_service()) == (("web", 8080), "web")
    record = await shared.record()
    assert record is not None
    assert record.id == here.lease.file.lease


async def test_what_does_not_hold_is_refused_before_anybody_is_dialled(here: Place, tmp_path: Path) -> None:
    token, holder = issued(here), colleague(here, tmp_path)
    forged = SignedCapability(capability=token.capability, signature=COLLEAGUE.sign(token.chain, token.capability))
    unknown = replace(token.capability, lease=type(here.lease.file.lease)(b"M" * 32))
    nowhere = replace(token.signed, capability=unknown)
    for told, code in (
        (replace(token, signed=forged), "capability.signature"),
        (replace(token, chain=ChainId("other")), "capability.chain"),
        (replace(token, signed=nowhere), "lease.unknown"),
    ):
        with pytest.raises(Refused) as error:
            await sharing.open_shared(holder, told)
        assert error.value.code == code
    with pytest.raises(Refused) as error:
        await sharing.open_shared(here.tenant, token)
    assert (error.value.code, addresses.encode(COLLEAGUE.public_key) in error.value.message) == (
        "capability.holder",
        True,
    )


async def test_what_no_token_may_say_is_not_signed(here: Place) -> None:
    for scopes, hours, code in (
        (("close",), 1, "capability.scope"),
        (("logs",), 32 * 24, "capability.life"),
        ((), 1, "capability.scopes"),
    ):
        with pytest.raises(Refused) as error:
            sharing.issue(here.lease, COLLEAGUE.public_key, scopes, life_ms=hours * HOUR_MS)
        assert error.value.code == code
    assert sharing.issued(here.tenant) == []


async def test_a_tenant_finds_its_tokens_by_the_start_of_their_ids(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = issued(here), issued(here, "status")
    assert {one.id for one in sharing.issued(here.tenant)} == {first.id, second.id}
    assert sharing.find(here.tenant, first.id.hex()[:16]) == first
    for text, code in (("", "capability.not_found"), ("x", "capability.not_found")):
        with pytest.raises(Refused) as error:
            sharing.find(here.tenant, text)
        assert error.value.code == code
    monkeypatch.setattr(sharing, "issued", lambda _: [first, first])
    with pytest.raises(Refused) as error:
        sharing.find(here.tenant, first.id.hex()[:4])
    assert error.value.code == "capability.ambiguous"


async def test_tokens_that_expired_long_ago_are_kept_no_longer(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issued(here)
    later = token.capability.expires_at + channel_bounds.CAPABILITY_LIFE_MS
    monkeypatch.setattr(clock, "now", lambda: Millis(later))
    assert sharing.issued(here.tenant) == [token]
    monkeypatch.setattr(clock, "now", lambda: Millis(later + 1))
    assert sharing.issued(here.tenant) == []
    assert list((here.tenant.home / "tokens").iterdir()) == []


async def test_what_was_revoked_is_remembered_by_its_tenant(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[Revocation], int]] = []

    class Channel:
        async def revoke(self, tokens: list[Revocation], *, before: Millis) -> Revoked:
            asked.append((tokens, before))
            return Revoked(calls_ended=0)

    monkeypatch.setattr(here.lease, "channel", Channel)
    first, second = issued(here), issued(here)
    await sharing.revoke(here.lease, [first])
    named = Revocation(token=first.id, expires_at=first.capability.expires_at)
    assert asked == [([named], 0)]
    assert {one.id: one.revoked for one in sharing.issued(here.tenant)} == {first.id: True, second.id: False}
    await sharing.revoke(here.lease, everything=True)
    assert asked[1][1] > second.capability.issued_at
    assert all(one.revoked for one in sharing.issued(here.tenant))


@pytest.mark.parametrize(
    "change", [{"format": "x"}, {"token": "zz"}, {"token": "00"}, {"port": "many"}, {"name": "\x1b[2J"}, None]
)
async def test_a_file_that_is_no_token_is_refused(here: Place, tmp_path: Path, change: Any) -> None:
    file = tmp_path / "web.token"
    sharing.save(file, issued(here))
    file.write_text("[]" if change is None else json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(Refused) as error:
        sharing.load(file)
    assert error.value.code == "capability.file"
    with pytest.raises(Refused):
        sharing.load(tmp_path / "missing")
    with pytest.raises(Refused):
        sharing.save(tmp_path / "missing" / "web.token", issued(here))


async def test_the_holders_key_is_found_among_those_of_its_home(here: Place, tmp_path: Path) -> None:
    token, home = issued(here), tmp_path / "elsewhere"
    os.makedirs(home)
    with pytest.raises(Refused) as error:
        sharing.holder_key(home, token)
    assert error.value.code == "capability.holder"
    Keystore(home / "keys").add_seed("colleague", "word", b"c" * 32, cost=Cost(passes=1, memory_bytes=8_192))
    assert sharing.holder_key(home, token) == "colleague"
