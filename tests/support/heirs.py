"""Worlds that go on from other worlds: exported, and begun again under another chain id."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from tests.support.ledger import Actor, World, entries

from fondaco.consensus import merkle
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.carrying import LEFT_BEHIND, Record, carried, state_writes, successor
from fondaco.consensus.ledger.genesis import Genesis, GenesisState
from fondaco.consensus.ledger.recount import Counted, count_again
from fondaco.consensus.ledger.state import RECORD, MemoryStore
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import VALIDATORS
from fondaco.protocol.scalars import Height, Millis

T = TypeVar("T")


def heritage(world: World, *, name: str = "heir", time: Millis | None = None) -> tuple[Genesis, list[Record]]:
    """What `fondaco genesis export` makes of a world."""
    records = list(carried(world.store, world.ledger.head.height))
    state = GenesisState(records=len(records), root=merkle.root_over(records))
    auditors = world.genesis.auditors
    return successor(world.store, name=name, time=time, auditors=auditors, state=state), records


def committed(genesis: Genesis, records: list[Record]) -> Genesis:
    """The genesis, committing to these records: what a forger writes."""
    return replace(genesis, state=GenesisState(records=len(records), root=merkle.root_over(records)))


class Heir(World):
    """The same people on a new chain that begins with what `world` has come to."""

    def __init__(self, world: World, *, time: Millis | None = None) -> None:
        self.genesis, records = heritage(world, time=time)
        self.counted = count_again(self.genesis, records)
        self.chain = self.genesis.chain
        self.store = MemoryStore()
        for writes in state_writes(self.genesis, records, self.store):
            self.store.apply(writes)
        self._actors = {name: Actor(self, name) for name in world._actors}
        self.by_key = {actor.key: actor for actor in self._actors.values()}
        self.validator = self._actors[world.validator.name]
        self.absent = set(world.absent)
        self.judged = world.judged
        self.ledger = Ledger(self.store, self.chain)
        self.certificate = None
        self.blocks = []
        self.minted = Counter()
        self._salts = world._salts


def records_of(world: World) -> dict[bytes, bytes]:
    stored = entries(world.store)
    return {key[len(RECORD) :]: value for key, value in stored.items() if key.startswith(RECORD)}


def kept(world: World) -> dict[bytes, bytes]:
    """The records that an heir has to the byte."""
    return {
        key: value
        for key, value in records_of(world).items()
        if key != VALIDATORS and not key.startswith((*LEFT_BEHIND, b"validators-from/"))
    }


def below(genesis: Genesis) -> Height:
    return Height(genesis.initial_height - 1)


class Forger:
    """The genesis of an heir whose records can be changed; the document commits to whatever they have become."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.genesis, records = heritage(world)
        self.records = dict(records)

    def sorted(self) -> list[Record]:
        return sorted(self.records.items())

    def read(self, key: bytes, kind: type[T]) -> T:
        return codec.decode(self.records[key], kind)

    def bend(self, key: bytes, kind: type, /, **changes: Any) -> Any:
        record: Any = replace(self.read(key, kind), **changes)
        self.records[key] = codec.encode(record)
        return record

    def count(self) -> Counted:
        """Raises `Refused` for what a chain cannot begin with."""
        return count_again(committed(self.genesis, self.sorted()), self.sorted())

    def verdict(self) -> Refused:
        with pytest.raises(Refused) as caught:
            self.count()
        return caught.value
