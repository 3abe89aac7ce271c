"""Auditors by name, and what they say of providers: proven, and said by commands.

    HOME/auditors.toml      foreign addresses in SDL files that stand for auditors here

    "akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63" = "fond1p..."

The chain's genesis has such a table, too; where both name an address, the file in the home has the last word.
The ledger's rules are in `consensus.ledger.trust`; here they are only told.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fondaco.consensus.ledger.genesis import Auditors
from fondaco.consensus.ledger.trust import holds
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import addresses, codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Attest, Message, Revoke
from fondaco.protocol.records import Attestation, Provider, key_attestation, key_provider
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Hash, Millis, PublicKey
from fondaco.protocol.signing import sha256

ALIASES = "auditors.toml"
FEES = 20_000
"""Ucredit that one attestation surely costs no more than."""
SLACK_MS = 60_000
"""Kept from the longest life, since block time goes on until the message is in a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One provider as auditors see it."""

    provider: Provider
    said: tuple[Attestation, ...]
    """By auditor; what has expired and is not forgotten yet, too."""
    now: Millis
    """Block time that this was read at."""

    def holds(self, said: Attestation) -> bool:
        return holds(said, now=self.now)


def local_aliases(home: Path) -> Auditors:
    """What `auditors.toml` in a home says; nothing where there is none. Raises `Refused` `auditors.malformed`."""
    path = home / ALIASES
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise Refused("auditors.malformed", f"{path}: {error}") from None
    if len(document) > limits.AUDITOR_ALIASES:
        raise Refused("auditors.malformed", f"{path}: at most {limits.AUDITOR_ALIASES} addresses")
    found = []
    for alias, address in document.items():
        if type(address) is not str:
            raise Refused("auditors.malformed", f"{path}: {alias} stands for an address in quotes")
        try:
            found.append((alias, addresses.decode(address)))
        except Refused as refusal:
            raise Refused("auditors.malformed", f"{path}: {alias}: {refusal.message}") from None
    return tuple(found)


def auditor_of(text: str, aliases: Mapping[str, PublicKey]) -> PublicKey:
    """The key that an address, or an alias of one, names. Raises `Refused` `address.malformed`."""
    return aliases[text] if text in aliases else addresses.decode(text)


async def standing(
    light: LightClient, provider: PublicKey, *, auditors: Sequence[PublicKey] = (), at_least: int = 0
) -> Standing:
    """What is said of a provider, each word proven: by `auditors`, and by all whom the nodes asked know of.

    That nobody else has spoken is not proven. Raises `Refused` `provider.unknown`.
    """
    own = await light.record(key_provider(provider), Provider, at_least=at_least)
    if own is None:
        raise Refused("provider.unknown", f"{addresses.encode(provider)} is no registered provider")
    said = []
    for auditor in sorted({*auditors, *await light.auditors(provider)}):
        found = await light.record(key_attestation(provider, auditor), Attestation, at_least=at_least)
        if found is not None:
            said.append(found)
    return Standing(provider=own, said=tuple(said), now=light.trusted_time)


async def attestation(
    light: LightClient, provider: PublicKey, *, attributes: Mapping[str, str], life_ms: int, evidence: Hash | None
) -> Attest:
    """The message that confirms `attributes`, or, with none given, all that the provider states.

    Evidence is the hash of the provider's record, as it was read here, unless given.
    Raises `Refused` `provider.unknown`.
    """
    own = await light.record(key_provider(provider), Provider)
    if own is None:
        raise Refused("provider.unknown", f"{addresses.encode(provider)} is no registered provider")
    asked = tuple(Attribute(key=key, value=attributes[key]) for key in sorted(attributes))
    longest = limits.ATTESTATION_LIFE_MS - SLACK_MS
    return Attest(
        provider=provider,
        attributes=asked or own.attributes,
        expires_at=Millis(light.trusted_time + min(life_ms, longest)),
        evidence=sha256(codec.encode(own)) if evidence is None else evidence,
    )


async def say(wallet: Wallet, *messages: Message) -> int:
    """Have messages of an auditor applied, asking the faucet for their fees; the height.

    Raises `Refused` `attest.*` or `wallet.funds`.
    """
    await wallet.ensure(FEES * len(messages))
    return await wallet.transact(*messages)


async def revoke(wallet: Wallet, provider: PublicKey, auditor: PublicKey) -> int:
    """End an attestation. Raises `Refused` `attest.*` or `wallet.funds`."""
    return await say(wallet, Revoke(provider=provider, auditor=auditor))


async def audit_all(wallet: Wallet, providers: Sequence[PublicKey], *, life_ms: int) -> int:
    """Confirm everything that these providers state, but for those of whom all of it is confirmed; how many."""
    light, own = wallet.light, wallet.signer.public_key
    messages: list[Message] = []
    for provider in providers:
        message = await attestation(light, provider, attributes={}, life_ms=life_ms, evidence=None)
        said = await light.record(key_attestation(provider, own), Attestation)
        fresh = said is not None and said.expires_at > light.trusted_time + life_ms // 2
        if message.attributes and not (fresh and said is not None and said.attributes == message.attributes):
            messages.append(message)
    for start in range(0, len(messages), limits.TX_MESSAGES):
        await say(wallet, *messages[start : start + limits.TX_MESSAGES])
    return len(messages)
