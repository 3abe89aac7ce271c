"""Sharing a lease: tokens that its tenant makes, keeps and revokes, and what their holders do with them.

    token = sharing.issue(lease, colleague, ["logs", "exec:web"], life_ms=8 * 3_600_000)
    sharing.save(Path("colleague.token"), token)

    async with Tenant.connect(home, key=sharing.holder_key(home, token)) as colleague:
        shared = await sharing.open_shared(colleague, token)
        print(await shared.status())

A token's file holds nothing secret: without the holder's key it opens nothing. It is kept for the owner's eyes all
the same, since it tells who works with what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fondaco.node import clock
from fondaco.node.files import write_atomically
from fondaco.node.keys.keystore import Keystore
from fondaco.node.keys.sealing import random_salt
from fondaco.node.tenant.access import Access, Place
from fondaco.protocol import addresses, channel_bounds, codec, limits
from fondaco.protocol.capabilities import (
    Capability,
    Scope,
    SignedCapability,
    capability_id,
    check_capability,
    identify,
    in_order,
    parse_scope,
)
from fondaco.protocol.channel_calls import Revocation, Revoked
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.records import Lease, Provider, key_lease, key_provider
from fondaco.protocol.scalars import ChainId, Hash, LeaseId, Millis, PublicKey

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.deployment import LeaseHandle

FORMAT = "fondaco-token/1"
FILE_BYTES = 16 * limits.KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A signed capability, and what makes it handy; only what is signed counts."""

    chain: ChainId
    signed: SignedCapability
    name: str
    """What its tenant calls the lease."""
    service: str
    """That is meant where none is named."""
    port: int
    """Likewise; 0 where it exposes none."""
    revoked: bool = False
    """As its tenant remembers."""

    @property
    def id(self) -> Hash:
        return capability_id(self.chain, self.signed.capability)

    @property
    def capability(self) -> Capability:
        return self.signed.capability


class SharedLease(Access):
    """A lease of another's, as far as a token goes; made by `open_shared`."""

    def __init__(self, tenant: Tenant, place: Place, token: Token) -> None:
        super().__init__(tenant.light, tenant.wallet.signer, place, token.signed)
        self._told = token

    @property
    def name(self) -> str:
        return self._told.name

    @property
    def group(self) -> None:
        """Only the tenant has it on file; `get_manifest` asks the provider."""

    def main_port(self) -> tuple[str, int]:
        if not self._told.port:
            raise Refused("lease.no_port", "the token names no port", hint="name --service and --port")
        return self._told.service, self._told.port

    def main_service(self) -> str:
        return self._told.service


def issue(lease: LeaseHandle, holder: PublicKey, scopes: Iterable[Scope | str], *, life_ms: int) -> Token:
    """Make a token for whoever has the key `holder`, and keep it where `issued` finds it.

    Raises `Refused` `capability.scope`, `capability.scopes` or `capability.life`.
    """
    tenant, now = lease.deployment.tenant, clock.now()
    capability = Capability(
        lease=lease.place.lease,
        audience=lease.place.provider,
        holder=holder,
        scopes=in_order(parse_scope(one) if isinstance(one, str) else one for one in scopes),
        issued_at=now,
        expires_at=Millis(now + life_ms),
        salt=random_salt(),
    )
    check_capability(capability)
    signature = tenant.wallet.signer.sign(tenant.light.chain, capability)
    exposes = any(service.expose for service in lease.group.services)
    service, port = lease.main_port() if exposes else (lease.main_service(), 0)
    token = Token(
        chain=tenant.light.chain,
        signed=SignedCapability(capability=capability, signature=signature),
        name=lease.name,
        service=service,
        port=port,
    )
    _keep(tenant, token)
    return token


def issued(tenant: Tenant) -> list[Token]:
    """What this tenant has made and not expired for long, oldest first. Raises as `load`."""
    found = [(load(path), path) for path in _folder(tenant).glob("*.json")]
    for token, path in found:
        if token.capability.expires_at + channel_bounds.CAPABILITY_LIFE_MS < clock.now():
            path.unlink(missing_ok=True)
    kept = (token for token, path in found if path.exists())
    return sorted(kept, key=lambda token: (token.capability.issued_at, token.id))


def find(tenant: Tenant, text: str) -> Token:
    """The one of `issued` whose id starts so.

    Raises `Refused` `capability.not_found` or `capability.ambiguous`.
    """
    matches = [token for token in issued(tenant) if text and token.id.hex().startswith(text)]
    if not matches:
        raise Refused("capability.not_found", f"no token here is {text!r}", hint="list them: fondaco token list")
    if len(matches) > 1:
        raise Refused("capability.ambiguous", f"{len(matches)} tokens start with {text!r}")
    return matches[0]


async def revoke(lease: LeaseHandle, tokens: Iterable[Token] = (), *, everything: bool = False) -> Revoked:
    """Have the provider take these tokens no more, or all that were issued up to now.

    Raises as `ChannelClient.revoke` does.
    """
    tenant, chosen = lease.deployment.tenant, list(tokens)
    names = [Revocation(token=one.id, expires_at=one.capability.expires_at) for one in chosen]
    done = await lease.channel().revoke(names, before=Millis(clock.now() + 1 if everything else 0))
    if everything:
        chosen = [one for one in issued(tenant) if one.capability.lease == lease.place.lease]
    for token in chosen:
        _keep(tenant, replace(token, revoked=True))
    return done


async def verify(tenant: Tenant, token: Token) -> Lease:
    """The lease that a token is for, once the token is known to hold for whoever has its key.

    Raises `Refused`: `capability.chain`, `lease.unknown`, or what `capabilities.identify` does.
    """
    light, capability = tenant.light, token.capability
    if token.chain != light.chain:
        raise Refused("capability.chain", f"that token is for the chain {token.chain}, and this is {light.chain}")
    record = await light.record(key_lease(capability.lease), Lease)
    if record is None:
        raise Refused("lease.unknown", "the ledger does not hold the lease that this token is for")
    identify(light.chain, token.signed, lease=record, audience=capability.audience, holder=capability.holder)
    return record


async def open_shared(tenant: Tenant, token: Token) -> SharedLease:
    """The way in for a token's holder; where the provider is, the ledger says.

    Raises `Refused` `capability.holder` or `provider.unknown`, and what `verify` does.
    """
    capability = token.capability
    if capability.holder != tenant.wallet.signer.public_key:
        raise Refused("capability.holder", f"that token is for {addresses.encode(capability.holder)}")
    await verify(tenant, token)
    provider = await tenant.light.record(key_provider(capability.audience), Provider)
    if provider is None:
        raise Refused("provider.unknown", "the ledger does not hold the provider that this token is for")
    place = Place(
        lease=LeaseId(capability.lease),
        provider=capability.audience,
        peer=provider.peer,
        addresses=provider.addresses,
    )
    return SharedLease(tenant, place, token)


def holder_key(home: Path, token: Token) -> str:
    """The name of the key in `home` that a token is for. Raises `Refused` `capability.holder`."""
    for info in Keystore(home / "keys").list():
        if info.public_key == token.capability.holder:
            return info.name
    raise Refused(
        "capability.holder",
        f"that token is for {addresses.encode(token.capability.holder)}, and no key here is that",
        hint="fondaco keys list",
    )


def save(path: Path, token: Token) -> None:
    """Write a token's file, for its owner's eyes only. Raises `Refused` `capability.file`."""
    document = {
        "format": FORMAT,
        "chain": token.chain,
        "token": codec.encode(token.signed).hex(),
        "name": token.name,
        "service": token.service,
        "port": token.port,
        "revoked": token.revoked,
    }
    try:
        write_atomically(path, json.dumps(document, indent=2).encode() + b"\n", 0o600)
    except OSError as error:
        raise Refused("capability.file", f"{path}: {error.strerror}") from None


def load(path: Path) -> Token:
    """Read a token's file; whether it holds is another question. Raises `Refused` `capability.file`."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(FILE_BYTES))
        if document["format"] != FORMAT:
            raise ValueError(f"the format is {document['format']!r}")
        if not f"{document['name']}{document['service']}".isprintable():
            raise ValueError("its names would write to a terminal what they should not")
        return Token(
            chain=ChainId(str(document["chain"])),
            signed=codec.decode(bytes.fromhex(document["token"]), SignedCapability),
            name=str(document["name"]),
            service=str(document["service"]),
            port=int(document["port"]),
            revoked=bool(document.get("revoked")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
        raise Refused("capability.file", f"{path} is no token: {error}") from None


def _folder(tenant: Tenant) -> Path:
    return tenant.home / "tokens"


def _keep(tenant: Tenant, token: Token) -> None:
    folder = _folder(tenant)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    save(folder / f"{token.id.hex()}.json", token)
