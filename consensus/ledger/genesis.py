"""The document a chain starts from. Its hash is part of the chain id, so nothing signed here holds elsewhere.

A chain starts with accounts, which the document lists; or with the records of another chain, which lie in a file
of their own (`node.genesis_file`) and to whose root the document commits. So the document stays small enough for
everybody who only needs to know the chain, and the chain id still names every record.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fondaco.consensus.ledger.params import Params, params_from
from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import (
    BOUNDS,
    INT_MAX,
    ChainId,
    Hash,
    Height,
    MicroCredits,
    MicroStake,
    Millis,
    Power,
    PublicKey,
)
from fondaco.protocol.signing import sha256

STAKE_PER_POWER = 1_000_000
NAME_LENGTH = 40
ROOT_FIELDS = (
    "name",
    "time_ms",
    "initial_height",
    "params",
    "validators",
    "accounts",
    "auditors",
    "authority",
    "issuer",
    "state",
)


Auditors = tuple[tuple[str, PublicKey], ...]
"""(address as SDL files name it, key here)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisValidator:
    key: PublicKey
    power: Power


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisAccount:
    owner: PublicKey
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisState:
    """The records that a chain starts with, which lie in a file beside the document."""

    records: int
    """How many they are."""
    root: Hash
    """Of the tree over them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    name: str
    time: Millis
    initial_height: Height
    params: Params
    validators: tuple[GenesisValidator, ...]
    accounts: tuple[GenesisAccount, ...]
    auditors: Auditors
    """What foreign auditor addresses in SDL files (`akash1...`) stand for on this chain."""
    authority: PublicKey | None = None
    """Who may change parameters; None: nobody."""
    issuer: PublicKey | None = None
    """Who may mint and burn credits; None: nobody."""
    state: GenesisState | None = None
    """Where the chain goes on from another one. `accounts` is empty then; validators, parameters, authority
    and issuer are those of the records."""

    def to_json(self) -> dict[str, Any]:
        """The document, as it is written to `genesis.json`; every field, so that the hash covers every field."""
        document: dict[str, Any] = {
            "name": self.name,
            "time_ms": self.time,
            "initial_height": self.initial_height,
            "params": {field.name: getattr(self.params, field.name) for field in dataclasses.fields(Params)},
            "validators": [
                {"address": addresses.encode(validator.key), "power": validator.power}
                for validator in self.validators
            ],
            "accounts": [
                {
                    "address": addresses.encode(account.owner),
                    "ucredit": account.credits,
                    "ustake": account.stake,
                }
                for account in self.accounts
            ],
            "auditors": {alias: addresses.encode(key) for alias, key in self.auditors},
            "authority": None if self.authority is None else addresses.encode(self.authority),
        }
        if self.issuer is not None:
            document["issuer"] = addresses.encode(self.issuer)
        if self.state is not None:
            document["state"] = {"records": self.state.records, "root": self.state.root.hex()}
        return document

    def hash(self) -> Hash:
        return sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode())

    @property
    def chain(self) -> ChainId:
        return ChainId(f"{self.name}-{self.hash().hex()[:16]}")

    def check(self) -> None:
        """Raise `Refused` `genesis.malformed` unless a ledger can start from this."""
        if not (self.name.isascii() and self.name.isprintable() and 1 <= len(self.name) <= NAME_LENGTH):
            raise _malformed(f"name must be 1 to {NAME_LENGTH} printable ASCII characters")
        if max(self.time, self.initial_height) > limits.BLOCK_TIME_MS:
            raise _malformed(f"time_ms and initial_height lie below {limits.BLOCK_TIME_MS}")
        if len(self.auditors) > limits.AUDITOR_ALIASES:
            raise _malformed(f"at most {limits.AUDITOR_ALIASES} auditors have an alias")
        if not 1 <= len(self.validators) <= limits.VALIDATORS:
            raise _malformed(f"a chain starts with 1..{limits.VALIDATORS} validators")
        for what, keys in (
            ("validators", [validator.key for validator in self.validators]),
            ("accounts", [account.owner for account in self.accounts]),
        ):
            if len(set(keys)) != len(keys):
                raise _malformed(f"{what} names an address twice")
        if self.state is not None:
            if self.accounts:
                raise _malformed("a genesis with a state has its accounts there")
            return
        bonded = sum(validator.power for validator in self.validators) * STAKE_PER_POWER
        for what, total in (
            ("ucredit", sum(account.credits for account in self.accounts)),
            ("ustake, bonded by validators included,", bonded + sum(account.stake for account in self.accounts)),
        ):
            if total > limits.SUPPLY:
                raise _malformed(f"{total} {what} in all, at most {limits.SUPPLY} allowed")


def genesis_from(document: object) -> Genesis:
    """Read a genesis document. Raises `Refused` `genesis.malformed` or `genesis.params`, saying where."""
    root = _Reader(document, "genesis", ROOT_FIELDS)
    genesis = Genesis(
        name=root.text("name"),
        time=Millis(root.integer("time_ms")),
        initial_height=Height(root.integer("initial_height", low=1)),
        params=params_from(root.mapping("params")),
        validators=tuple(
            GenesisValidator(key=entry.address("address"), power=Power(entry.integer("power", low=1)))
            for entry in root.entries("validators", ("address", "power"))
        ),
        accounts=tuple(
            GenesisAccount(
                owner=entry.address("address"),
                credits=MicroCredits(entry.integer("ucredit")),
                stake=MicroStake(entry.integer("ustake")),
            )
            for entry in root.entries("accounts", ("address", "ucredit", "ustake"))
        ),
        auditors=tuple(
            (alias, addresses.decode(str(key))) for alias, key in sorted(root.mapping("auditors").items())
        ),
        authority=root.optional_address("authority"),
        issuer=root.optional_address("issuer"),
        state=_state(root),
    )
    genesis.check()
    return genesis


def _state(root: _Reader) -> GenesisState | None:
    found = root.optional("state", ("records", "root"))
    return None if found is None else GenesisState(records=found.integer("records"), root=found.hash("root"))


def _malformed(message: str) -> Refused:
    return Refused("genesis.malformed", message)


class _Reader:
    """One JSON object, read field by field, with errors that say where."""

    def __init__(self, value: object, where: str, fields: Collection[str]) -> None:
        if not isinstance(value, dict):
            raise _malformed(f"{where} is not an object")
        unknown = sorted(str(name) for name in value if name not in fields)
        if unknown:
            raise _malformed(f"{where} has unknown fields: {', '.join(unknown[:8])}")
        self._value: Mapping[str, object] = value
        self._where = where

    def _field(self, name: str) -> object:
        if name not in self._value:
            raise _malformed(f"{self._where}.{name} is missing")
        return self._value[name]

    def text(self, name: str) -> str:
        value = self._field(name)
        if not isinstance(value, str):
            raise _malformed(f"{self._where}.{name} is not text")
        return value

    def integer(self, name: str, *, low: int = 0) -> int:
        value = self._field(name)
        if type(value) is not int or not low <= value <= INT_MAX:
            raise _malformed(f"{self._where}.{name} is not an integer from {low}")
        return value

    def address(self, name: str) -> PublicKey:
        return addresses.decode(self.text(name))

    def optional_address(self, name: str) -> PublicKey | None:
        return None if self._value.get(name) is None else self.address(name)

    def hash(self, name: str) -> Hash:
        text = self.text(name)
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) != BOUNDS[Hash][0] or raw.hex() != text:
            raise _malformed(f"{self._where}.{name} is not a hash in hexadecimal")
        return Hash(raw)

    def optional(self, name: str, fields: Collection[str]) -> _Reader | None:
        value = self._value.get(name)
        return None if value is None else _Reader(value, f"{self._where}.{name}", fields)

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._field(name)
        if not isinstance(value, dict):
            raise _malformed(f"{self._where}.{name} is not an object")
        return value

    def entries(self, name: str, fields: Collection[str]) -> Sequence[_Reader]:
        value = self._field(name)
        if not isinstance(value, list):
            raise _malformed(f"{self._where}.{name} is not a list")
        return [_Reader(item, f"{self._where}.{name}[{index}]", fields) for index, item in enumerate(value)]
