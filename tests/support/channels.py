"""Two sessions of a lease channel, played against each other without any stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fondaco.protocol.capabilities import Capability, Scope, SignedCapability
from fondaco.protocol.channel import ClientSession, ServerSession
from fondaco.protocol.channel_events import Called, Challenged, Greeted, Opened
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    PublicKey,
    Salt,
)
from fondaco.protocol.signing import Signer

CHAIN = ChainId("test")
TENANT, PROVIDER, STRANGER, HOLDER = (Signer(bytes([number]) * 32) for number in (1, 2, 3, 4))
LEASE = LeaseId(b"L" * 32)


def nonce(number: int) -> Hash:
    return Hash(bytes([number]) * 32)


def lease(*, tenant: PublicKey = TENANT.public_key, provider: PublicKey = PROVIDER.public_key) -> Lease:
    return Lease(
        id=LEASE,
        deployment=DeploymentId(b"D" * 32),
        group=GroupIndex(0),
        tenant=tenant,
        provider=provider,
        price_per_hour=MicroCredits(1),
        units=(),
        commitment=nonce(9),
        version=1,
        reclamation_window_ms=Millis(0),
        state=LeaseState.AWAITING,
        opened_at=Millis(0),
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=Millis(0),
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def capability(**changes: Any) -> Capability:
    """Of HOLDER for the lease, at the provider, for its status and logs."""
    found = Capability(
        lease=LEASE,
        audience=PROVIDER.public_key,
        holder=HOLDER.public_key,
        scopes=(Scope(method="logs"), Scope(method="status")),
        issued_at=Millis(1_000),
        expires_at=Millis(2_000),
        salt=Salt(bytes(16)),
    )
    return replace(found, **changes)


def signed(capability: Capability, *, signer: Signer = TENANT) -> SignedCapability:
    return SignedCapability(capability=capability, signature=signer.sign(CHAIN, capability))


def client(
    *,
    signer: Signer = TENANT,
    provider: Signer = PROVIDER,
    peer: str = "provider",
    own: int = 10,
    token: SignedCapability | None = None,
) -> ClientSession:
    return ClientSession(
        CHAIN,
        signer,
        lease=LEASE,
        provider=provider.public_key,
        tenant_peer="tenant",
        provider_peer=peer,
        nonce=nonce(own),
        token=token,
    )


def server(
    *, signer: Signer = PROVIDER, peer: str = "tenant", own: int = 20, seen: SeenNonces | None = None
) -> ServerSession:
    return ServerSession(
        CHAIN,
        signer,
        tenant_peer=peer,
        provider_peer="provider",
        nonce=nonce(own),
        seen=SeenNonces() if seen is None else seen,
    )


def shake(
    tenant: ClientSession, provider: ServerSession, *, record: Lease | None = None, method: str = "status"
) -> Called:
    """Play the handshake up to the request."""
    assert provider.receive(tenant.hello()) == (Greeted(lease=LEASE, caller=TENANT.public_key),)
    assert tenant.receive(provider.challenge(lease() if record is None else record)) == (Challenged(),)
    (called,) = provider.receive(tenant.request(method, b"params"))
    assert isinstance(called, Called)
    return called


def opened() -> tuple[ClientSession, ServerSession]:
    tenant, provider = client(), server()
    shake(tenant, provider)
    assert tenant.receive(provider.accept()) == (Opened(),)
    return tenant, provider


def code_of(error: pytest.ExceptionInfo[FondacoError]) -> str:
    return error.value.code
