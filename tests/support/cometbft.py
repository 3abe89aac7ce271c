"""CometBFT's headers, sets and votes as `LightBlock`s: its JSON in, its hashes and sign bytes out.

Just enough protobuf for that: varints, fixed 64-bit integers and length-delimited fields, defaults left out.
Source: cometbft `proto/cometbft/types/v1/{types,canonical}.proto`, `types/block.go` (Header.Hash).
"""

from __future__ import annotations

import base64
import calendar
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fondaco.consensus import merkle_list
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import verify

Json = dict[str, Any]
COMMITTED, NIL = 2, 3
ABSENT = 1


def nanoseconds(text: str) -> int:
    """An RFC 3339 time in UTC."""
    found = re.fullmatch(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)(?:\.(\d+))?Z", text)
    assert found is not None, text
    *date, fraction = found.groups()
    seconds = calendar.timegm(tuple(int(part) for part in date))
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _integer(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number) if number else b""


def _fixed(field: int, number: int) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<q", number) if number else b""


def _blob(field: int, data: bytes, *, always: bool = False) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data if data or always else b""


def _time(text: str) -> bytes:
    moment = nanoseconds(text)
    return _integer(1, moment // 10**9) + _integer(2, moment % 10**9)


def _hex(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


def _block_id(value: Json | None) -> bytes:
    if not value:
        return _blob(2, b"", always=True)
    parts = value.get("part_set_header") or value.get("parts")
    inner = _integer(1, int(parts["total"])) + _blob(2, _hex(parts["hash"])) if parts else b""
    return _blob(1, _hex(value["hash"])) + _blob(2, inner, always=True)


def header_hash(header: Json) -> bytes:
    version = header["version"]
    leaves = [
        _integer(1, int(version["block"])) + _integer(2, int(version.get("app") or 0)),
        _blob(1, header["chain_id"].encode()),
        _integer(1, int(header["height"])),
        _time(header["time"]),
        _block_id(header["last_block_id"]),
    ]
    leaves += [
        _blob(1, _hex(header[name]))
        for name in (
            "last_commit_hash",
            "data_hash",
            "validators_hash",
            "next_validators_hash",
            "consensus_hash",
            "app_hash",
            "last_results_hash",
            "evidence_hash",
            "proposer_address",
        )
    ]
    return merkle_list.root(leaves)


@dataclass(frozen=True)
class CometValidators:
    """A validator set, by address."""

    keys: dict[str, tuple[PublicKey, int]]

    @classmethod
    def read(cls, value: Json | None) -> CometValidators:
        members = value["validators"] if value else []
        return cls(
            {
                member["address"]: (
                    PublicKey(base64.b64decode(member["pub_key"]["value"])),
                    int(member.get("voting_power") or member["power"]),
                )
                for member in members
            }
        )

    @cached_property
    def hash(self) -> bytes:
        ordered = sorted(self.keys.items(), key=lambda item: (-item[1][1], item[0]))
        return merkle_list.root([_blob(1, _blob(1, key)) + _integer(2, power) for _, (key, power) in ordered])

    @property
    def total(self) -> int:
        return sum(power for _, power in self.keys.values())


@dataclass(frozen=True)
class CometBlock:
    """A `LightBlock` of CometBFT's; times are nanoseconds."""

    header: Json
    commit: Json
    validators: CometValidators
    next_validators: CometValidators

    @classmethod
    def read(cls, block: Json) -> CometBlock:
        signed = block["signed_header"]
        return cls(
            header=signed["header"],
            commit=signed["commit"],
            validators=CometValidators.read(block.get("validator_set")),
            next_validators=CometValidators.read(block.get("next_validator_set")),
        )

    @property
    def chain(self) -> str:
        return str(self.header["chain_id"])

    @property
    def height(self) -> int:
        return int(self.header["height"])

    @property
    def time(self) -> int:
        return nanoseconds(self.header["time"])

    @cached_property
    def hash(self) -> bytes:
        return header_hash(self.header)

    @property
    def next_validators_hash(self) -> bytes:
        return _hex(self.header["next_validators_hash"])

    @property
    def named_validators_hash(self) -> bytes:
        return _hex(self.header["validators_hash"])

    def check_hashes(self) -> None:
        signatures = self.commit["signatures"]
        signers = {one["validator_address"] for one in signatures if one["block_id_flag"] != ABSENT}
        for holds, what in (
            (self.named_validators_hash == self.validators.hash, "validators"),
            (
                not self.next_validators.keys or self.next_validators_hash == self.next_validators.hash,
                "next validators",
            ),
            (self.hash == _hex(self.commit["block_id"]["hash"]), "certificate"),
            (int(self.commit["height"]) == self.height, "certificate height"),
            (bool(signatures) and len(signatures) == len(self.validators.keys), "places"),
            (signers <= self.validators.keys.keys(), "signers"),
        ):
            if not holds:
                raise PeerFault("light.hash", f"height {self.height}: {what}")

    def signed_weight(self, voters: CometValidators | None) -> tuple[int, int]:
        counted = self.validators if voters is None else voters
        weight, seen = 0, set()
        for one in self.commit["signatures"]:
            address = one["validator_address"]
            if one["block_id_flag"] == ABSENT:
                continue
            if address in seen:
                raise PeerFault("light.twice", f"{address} signs twice")
            seen.add(address)
            if address not in counted.keys:
                continue
            key, power = counted.keys[address]
            if not verify(key, self._sign_bytes(one), Signature(base64.b64decode(one["signature"]))):
                raise PeerFault("signature.bad", f"{address} did not sign this")
            weight += power if one["block_id_flag"] == COMMITTED else 0
        return weight, counted.total

    def _sign_bytes(self, one: Json) -> bytes:
        commit = self.commit
        body = _integer(1, 2) + _fixed(2, int(commit["height"])) + _fixed(3, int(commit["round"]))
        if one["block_id_flag"] == COMMITTED:
            body += _blob(4, _block_id(commit["block_id"]))
        body += _blob(5, _time(one["timestamp"]), always=True) + _blob(6, self.chain.encode())
        return _varint(len(body)) + body
