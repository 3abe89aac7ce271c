"""Proof files as people use them: which record is meant, reading a file, and what it says.

Nothing here touches a network: `fondaco verify` runs where there is none.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.consensus.ledger.genesis import Genesis, genesis_from
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.light import TrustedState, trust_genesis
from fondaco.consensus.proof import Anchor, ProvenAt, parse_header_id
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import addresses, codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import (
    PARAMS,
    Account,
    Attestation,
    Deployment,
    Lease,
    Provider,
    key_account,
    key_attestation,
    key_deployment,
    key_lease,
    key_provider,
)
from fondaco.protocol.scalars import DeploymentId, Height, LeaseId, PublicKey

ID_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of record that can be proven by name."""

    prefix: bytes
    record: type[Any]


KINDS = {
    "lease": Kind(prefix=b"lease/", record=Lease),
    "account": Kind(prefix=b"account/", record=Account),
    "provider": Kind(prefix=b"provider/", record=Provider),
    "attestation": Kind(prefix=b"attestation/", record=Attestation),
    "deployment": Kind(prefix=b"deployment/", record=Deployment),
    "param": Kind(prefix=PARAMS, record=Params),
}

KEYS_NAMED = {"account": 1, "provider": 1, "attestation": 2}
"""Of how many keys the id of a record is made, where it is."""


def key_of(kind: str, text: str) -> bytes:
    """The ledger's key of the record that `text` names; parameters are one record together.

    Raises `Refused` `proof.id` or `address.malformed`.
    """
    match kind:
        case "lease":
            return key_lease(LeaseId(_identity(text)))
        case "deployment":
            return key_deployment(DeploymentId(_identity(text)))
        case "account":
            return key_account(addresses.decode(text))
        case "provider":
            return key_provider(addresses.decode(text))
        case "attestation":
            provider, _, auditor = text.partition("/")
            return key_attestation(addresses.decode(provider), addresses.decode(auditor))
        case _:
            if text not in {field.name for field in dataclasses.fields(Params)}:
                raise Refused(
                    "proof.id", f"there is no parameter {text!r}", hint="see docs/reference/parameters.md"
                )
            return PARAMS


def _identity(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES:
        raise Refused("proof.id", f"{text!r} is no whole id", hint="give all 64 hexadecimal digits")
    return raw


def read(path: Path) -> bytes:
    """The bytes of a proof file. Raises `Refused` `proof.unreadable`."""
    try:
        with path.open("rb") as file:
            return file.read(limits.MESSAGE_BYTES + 1)
    except OSError as error:
        raise Refused("proof.unreadable", f"{path}: {error.strerror}") from None


def read_anchor(text: str) -> Anchor:
    """HEIGHT:HASH, or the path of a genesis file. Raises `Refused` `light.anchor` or `genesis.*`."""
    path = Path(text)
    if not path.is_file():
        return parse_header_id(text)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused("genesis.malformed", f"{path}: {error}") from None
    return genesis_anchor(genesis_from(document))


def genesis_anchor(genesis: Genesis) -> TrustedState[ValidatorSet]:
    """What a genesis document makes one trust."""
    return trust_genesis(
        chain=genesis.chain,
        height=Height(genesis.initial_height - 1),
        time=genesis.time,
        hash=genesis.hash(),
        validators=ValidatorSet.of((one.key, one.power) for one in genesis.validators),
    )


def describe(found: ProvenAt) -> dict[str, Any]:
    """What was proven, as plain values. Raises `Malformed` for a record that this program does not know."""
    name, kind = next(
        ((name, kind) for name, kind in KINDS.items() if found.key.startswith(kind.prefix)), ("record", None)
    )
    identity: Any = found.key.hex()
    record: Any = None if found.value is None else found.value.hex()
    if kind is not None:
        rest = found.key.removeprefix(kind.prefix)
        whole = len(rest) == ID_BYTES * KEYS_NAMED.get(name, 0)
        keys = [PublicKey(rest[start : start + ID_BYTES]) for start in range(0, len(rest), ID_BYTES)]
        identity = "/".join(map(addresses.encode, keys)) if keys and whole else rest.hex()
        if found.value is not None:
            record = plain(codec.decode(found.value, kind.record))
    header = found.header
    return {
        "kind": name,
        "id": identity,
        "exists": found.value is not None,
        "record": record,
        "chain": header.chain,
        "height": header.height,
        "hash": header.hash().hex(),
        "time_ms": header.time,
    }


def plain(value: Any) -> Any:
    """A message as JSON has it: keys as addresses, other bytes in hexadecimal, states by name."""
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        found = {}
        for field in dataclasses.fields(value):
            one = getattr(value, field.name)
            found[field.name] = addresses.encode(one) if hints[field.name] is PublicKey else plain(one)
        return found
    return value
