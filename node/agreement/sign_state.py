"""The guard against double signing: the last statement a validator signed, on the disk before anyone sees it.

A validator that signs two different values for one (height, round, step) loses its stake, so before a signature
leaves, what it signs is compared with the last thing signed and then forced to the disk. Order within a round:
proposal, prevote, precommit.

    later than the last    -> stored, synced, signed
    the same bytes         -> the stored signature again
    same place, other bytes -> `sign.conflict`
    earlier                -> `sign.regression`

The file holds the signed bytes and their signature, which proves it whole: a changed file does not verify and
nothing is signed until a person has looked. It is replaced by rename, so no crash leaves it torn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fondaco.node.files import write_atomically
from fondaco.protocol import codec
from fondaco.protocol.agreement import Proposal, Vote, VoteKind
from fondaco.protocol.errors import FondacoError, Malformed, Refused
from fondaco.protocol.scalars import ChainId, Height, PublicKey, Round, Signature
from fondaco.protocol.signing import DOMAIN, Signer, signing_bytes, verify

Statement = Vote | Proposal
FORMAT = 1
_STEP_NAMES = ("proposal", "prevote", "precommit")
_STEPS = {VoteKind.PREVOTE: 1, VoteKind.PRECOMMIT: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSigned:
    """The newest statement and the signature that went with it."""

    chain: ChainId
    validator: PublicKey
    statement: Statement
    signature: Signature

    @property
    def place(self) -> tuple[Height, Round, int]:
        return place(self.statement)


class SignStateFailed(FondacoError):
    """The disk refused the state: no signature was given out, and the process must stop."""


class SignState:
    """Signs votes and proposals, never two that contradict; made by `create` or `open`."""

    def __init__(self, path: Path, last: LastSigned | None) -> None:
        self._path = path
        self.last = last
        """None until something was signed."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """The state of a validator that has never signed. Raises `Refused` `sign.exists` if `path` is there."""
        try:
            write_atomically(path, _to_bytes(None), replace=False)
        except FileExistsError:
            raise Refused("sign.exists", f"{path} is there already: this validator may have signed") from None
        except OSError as error:
            raise _failed(path, error) from None
        return cls(path, None)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the state of a validator that may have signed.

        Raises `Refused` `sign.missing` if the file is gone (signing without it could contradict what it held) and
        `sign.corrupt` if it is not what was written.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Refused(
                "sign.missing",
                f"{path} is gone: signing now could contradict what was signed before",
                hint="restore it, or start this validator anew under another key",
            ) from None
        return cls(path, _from_bytes(path, data))

    def sign(self, signer: Signer, chain: ChainId, statement: Statement) -> Signature:
        """Sign `statement`, once it is safe and on the disk.

        Raises `Refused` `sign.regression`, `sign.conflict`, `sign.chain` or `sign.key`; `SignStateFailed`.
        """
        stored = None if self.last is None else self._compare(self.last, signer, chain, statement)
        if stored is not None:
            return stored
        signature = signer.sign(chain, statement)
        last = LastSigned(chain=chain, validator=signer.public_key, statement=statement, signature=signature)
        try:
            write_atomically(self._path, _to_bytes(last))
        except OSError as error:
            raise _failed(self._path, error) from None
        self.last = last
        return signature

    def _compare(self, last: LastSigned, signer: Signer, chain: ChainId, statement: Statement) -> Signature | None:
        """The stored signature if `statement` is the last one, None if it may be signed."""
        if signer.public_key != last.validator:
            raise Refused(
                "sign.key",
                f"{self._path} belongs to key {last.validator.hex()[:12]}, not {signer.public_key.hex()[:12]}",
                hint="use a home of its own for each validator key",
            )
        if chain != last.chain:
            raise Refused(
                "sign.chain",
                f"{self._path} belongs to chain {last.chain}, not {chain}",
                hint="use a home of its own for each chain",
            )
        if place(statement) > last.place:
            return None
        if statement == last.statement:
            return last.signature
        if place(statement) == last.place:
            raise Refused("sign.conflict", f"another {_describe(statement)} was signed already")
        raise Refused("sign.regression", f"asked for {_describe(statement)} after {_describe(last.statement)}")


def place(statement: Statement) -> tuple[Height, Round, int]:
    """(height, round, step): where in the run of consensus a statement stands."""
    step = 0 if isinstance(statement, Proposal) else _STEPS[statement.kind]
    return statement.height, statement.round, step


def _describe(statement: Statement) -> str:
    height, round_, step = place(statement)
    return f"{_STEP_NAMES[step]} at height {height} round {round_}"


def _to_bytes(last: LastSigned | None) -> bytes:
    if last is None:
        return json.dumps({"format": FORMAT}).encode() + b"\n"
    content = {
        "format": FORMAT,
        "about": _describe(last.statement),
        "validator": last.validator.hex(),
        "signed": signing_bytes(last.chain, last.statement).hex(),
        "signature": last.signature.hex(),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _from_bytes(path: Path, data: bytes) -> LastSigned | None:
    try:
        content = json.loads(data)
        if content == {"format": FORMAT}:
            return None
        if content["format"] != FORMAT:
            raise ValueError
        validator = PublicKey(bytes.fromhex(content["validator"]))
        signed = bytes.fromhex(content["signed"])
        signature = Signature(bytes.fromhex(content["signature"]))
        domain, chain, _tag, body = codec.unpack(signed)
        statement: Statement = codec.decode_union(body, Statement)
    except (ValueError, TypeError, KeyError, RecursionError, Malformed):
        raise _corrupt(path) from None
    last = LastSigned(chain=ChainId(chain), validator=validator, statement=statement, signature=signature)
    whole = domain == DOMAIN and signed == signing_bytes(last.chain, statement)
    if not whole or not verify(validator, signed, signature) or content.get("about") != _describe(statement):
        raise _corrupt(path)
    return last


def _corrupt(path: Path) -> Refused:
    return Refused(
        "sign.corrupt",
        f"{path} is not what this program wrote: nothing is signed",
        hint="restore it, or start this validator anew under another key",
    )


def _failed(path: Path, error: OSError) -> SignStateFailed:
    return SignStateFailed("sign.failed", f"cannot write {path}: {error.strerror or error}")
