"""Genesis on the disk: the document, and beside it the records of a chain that goes on from another.

    genesis.json     the document
    genesis.state    only where the document has a `state`: its records

The second file is a line that says what it is and then, record by record in key order, two lengths (of the key in
two bytes, of the value in four, big-endian), the key and the value. It is read as a stream, whatever its size.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from fondaco.consensus import merkle
from fondaco.consensus.ledger.carrying import Record, carried, state_writes, successor
from fondaco.consensus.ledger.genesis import Auditors, Genesis, GenesisState, genesis_from
from fondaco.consensus.ledger.recount import count_again
from fondaco.consensus.ledger.start import genesis_writes
from fondaco.consensus.ledger.state import NODE, RECORD, Store, Writes
from fondaco.node.config import NO_HOME
from fondaco.node.files import write_atomically
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import SUPPLY, Supply
from fondaco.protocol.scalars import Hash, Height, Millis

SUFFIX = ".state"
MAGIC = b"fondaco genesis state 1\n"
LENGTHS = struct.Struct(">HI")


def read_genesis(path: Path) -> Genesis:
    """Read a document. Raises `Refused` `genesis.missing`, `genesis.malformed` or `genesis.params`."""
    try:
        with path.open("rb") as file:
            raw = file.read(limits.GENESIS_BYTES + 1)
        if len(raw) > limits.GENESIS_BYTES:
            raise Refused("genesis.malformed", f"{path} is larger than {limits.GENESIS_BYTES} bytes")
        document = json.loads(raw)
    except FileNotFoundError:
        raise Refused("genesis.missing", f"there is no genesis file at {path}", hint=NO_HOME) from None
    except (OSError, ValueError, RecursionError) as error:
        raise Refused("genesis.malformed", f"{path}: {error}") from None
    return genesis_from(document)


def state_path(genesis: Path) -> Path:
    """Where the records of the document at `genesis` lie."""
    return genesis.with_suffix(SUFFIX)


def read_state(path: Path) -> Iterator[Record]:
    """The records in a file. Raises `Refused` `genesis.state_missing` or `genesis.state`."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise Refused("genesis.state", f"{path} is no file of genesis records")
            while head := file.read(LENGTHS.size):
                yield _record(path, file, head)
    except FileNotFoundError:
        raise Refused(
            "genesis.state_missing",
            f"genesis has records in a file of their own, and there is no {path}",
            hint="keep the two files that `fondaco genesis export` wrote together",
        ) from None
    except OSError as error:
        raise Refused("genesis.state", f"{path}: {error.strerror}") from None


def _record(path: Path, file: BinaryIO, head: bytes) -> Record:
    if len(head) == LENGTHS.size:
        key_bytes, value_bytes = LENGTHS.unpack(head)
        size = key_bytes + value_bytes
        if size <= limits.GENESIS_RECORD_BYTES:
            both = file.read(size)
            if len(both) == size:
                return both[:key_bytes], both[key_bytes:]
    raise Refused("genesis.state", f"{path} is cut off, or holds no record at byte {file.tell() - len(head)}")


def first_writes(genesis: Genesis, state: Path | None, store: Store) -> Iterator[Writes]:
    """What the empty `store` of a node begins with, in batches, as `carrying.state_writes`.

    Raises `Refused` `genesis.*` if the records are not what genesis commits to, or no ledger could begin with.
    """
    if genesis.state is None:
        yield genesis_writes(genesis)
        return
    if state is None:
        raise Refused("genesis.state_missing", "this genesis has records in a file of their own")
    count_again(genesis, read_state(state))
    yield from state_writes(genesis, read_state(state), store)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a genesis comes to, documents and records."""

    genesis: Genesis
    supply: Supply
    state_root: Hash
    """Of the state before the first block."""
    records: int


def check(path: Path) -> Checked:
    """Judge a genesis as a node does that begins with it. Raises `Refused` `genesis.*`."""
    genesis = read_genesis(path)
    if genesis.state is not None:
        counted = count_again(genesis, read_state(state_path(path)))
        return Checked(
            genesis=genesis, supply=counted.supply, state_root=counted.root, records=genesis.state.records
        )
    writes = genesis_writes(genesis)
    supply = writes[RECORD + SUPPLY]
    assert supply is not None, "every ledger has a supply"
    return Checked(
        genesis=genesis,
        supply=codec.decode(supply, Supply),
        state_root=merkle.root_of(lambda path: writes.get(NODE + path)),
        records=sum(key.startswith(RECORD) for key in writes),
    )


def export(store: Store, out: Path, *, name: str, time: Millis | None, auditors: Auditors) -> Checked:
    """Write the genesis of a chain that goes on from `store`, which must not change meanwhile.

    The document goes to `out`, the records beside it; what is there already is not touched. Both are judged as by
    `check` before the document gets its name.
    Raises `Refused` `genesis.exists`, `genesis.unwritable`, `genesis.time`, or as `check`.
    """
    state = state_path(out)
    if state == out:
        raise Refused("genesis.unwritable", f"{out} is the name of the records' file", hint="name it .json")
    for path in (out, state):
        if path.exists():
            raise Refused("genesis.exists", f"{path} is there already", hint="choose another --out")
    unfinished = state.with_name(f".{state.name}.{os.getpid()}.tmp")
    none_yet = GenesisState(records=0, root=merkle.EMPTY)
    draft = successor(store, name=name, time=time, auditors=auditors, state=none_yet)
    try:
        genesis = replace(draft, state=_write_state(unfinished, carried(store, Height(draft.initial_height - 1))))
        counted = count_again(genesis, read_state(unfinished))
        os.rename(unfinished, state)
        write_atomically(out, json.dumps(genesis.to_json(), indent=2).encode() + b"\n", 0o644, replace=False)
    except OSError as error:
        raise Refused("genesis.unwritable", f"{error.filename or out}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return Checked(
        genesis=genesis, supply=counted.supply, state_root=counted.root, records=counted.records.total()
    )


def _write_state(path: Path, records: Iterable[Record]) -> GenesisState:
    """Write the records as they come, durable on return; what they come to."""
    count = 0
    with path.open("wb") as file:
        file.write(MAGIC)

        def written() -> Iterator[Record]:
            nonlocal count
            for key, value in records:
                count += 1
                file.write(LENGTHS.pack(len(key), len(value)) + key + value)
                yield key, value

        root = merkle.root_over(written())
        file.flush()
        os.fsync(file.fileno())
    return GenesisState(records=count, root=root)
