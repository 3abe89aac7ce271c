"""A chain that goes on as another: which records it takes along, and how they get into an empty store.

The new chain has another id, and every signature names the chain it was made for. So nothing signed for the old
chain can be handed in on the new one. What the ledger remembers only so as not to be handed the same thing twice,
or to judge evidence about heights of the old chain, is left behind (`LEFT_BEHIND`). All else is taken to the byte,
except that no set is remembered to have signed the block below the first: nobody can ask for its certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from fondaco.consensus import merkle
from fondaco.consensus.ledger.genesis import Auditors, Genesis, GenesisState, GenesisValidator
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.start import genesis_head, read_head
from fondaco.consensus.ledger.state import NODE, RECORD, State, Store, Writes
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import (
    AUTHORITY,
    ISSUER,
    PARAMS,
    VALIDATORS,
    Authority,
    Issuer,
    ValidatorSets,
    ValidatorsFrom,
    key_validators_from,
)
from fondaco.protocol.scalars import Height, Millis

Record = tuple[bytes, bytes]
"""Key and value, as they stand under the root."""

LEFT_BEHIND = (
    b"used-ids/",
    b"used-order/",
    b"used-order-expiry/",
    b"moment/",
    b"validators-from/",
    b"evidence/",
    b"evidence-height/",
)
"""Transactions and orders of the old chain that were used, and what evidence about its heights is judged by."""
PAGE_RECORDS = 1_000


def every(store: Store, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All entries of a store whose key starts with `prefix`, in key order. It must not change meanwhile."""
    start, end = prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
    while page := list(store.scan(start, end, PAGE_RECORDS)):
        yield from page
        start = page[-1][0] + b"\x00"


def carried(store: Store, height: Height) -> Iterator[Record]:
    """What a chain begins with that goes on from `store` after `height`, in key order."""
    for stored, value in every(store, RECORD):
        key = stored[len(RECORD) :]
        if key == VALIDATORS:
            sets = codec.decode(value, ValidatorSets)
            yield key, codec.encode(replace(sets, last=()))
            yield key_validators_from(height), codec.encode(ValidatorsFrom(members=sets.next))
        elif not key.startswith(LEFT_BEHIND):
            yield key, value


def successor(store: Store, *, name: str, time: Millis | None, auditors: Auditors, state: GenesisState) -> Genesis:
    """The document of the chain that goes on from `store`, whose `carried` records come to `state`.

    Its time is that of the newest block if not given. Raises `Refused` `genesis.malformed`, or `genesis.time` for
    a time before that block's.
    """
    read = State(store)
    head = read_head(store, Records())
    if time is not None and time < head.time:
        raise Refused("genesis.time", f"time {time} is before the newest block's, {head.time}")
    authority, issuer = read.get(AUTHORITY, Authority), read.get(ISSUER, Issuer)
    genesis = Genesis(
        name=name,
        time=head.time if time is None else time,
        initial_height=Height(head.height + 1),
        params=read.require(PARAMS, Params),
        validators=tuple(
            GenesisValidator(key=one.public_key, power=one.power)
            for one in read.require(VALIDATORS, ValidatorSets).next
        ),
        accounts=(),
        auditors=auditors,
        authority=None if authority is None else authority.key,
        issuer=None if issuer is None else issuer.key,
        state=state,
    )
    genesis.check()
    return genesis


def state_writes(genesis: Genesis, records: Iterable[Record], store: Store) -> Iterator[Writes]:
    """What to put into the empty `store`, in batches: each must be there before the next is asked for.

    Raises `Refused` `genesis.state` at the end if it does not come to the root that genesis commits to.
    """
    assert genesis.state is not None, "this genesis lists its accounts"

    def read(path: bytes) -> bytes | None:
        return store.get(NODE + path)

    remaining = iter(records)
    while batch := dict(islice(remaining, limits.GENESIS_BATCH_RECORDS)):
        nodes = merkle.update(read, batch)
        yield {RECORD + key: value for key, value in batch.items()} | {
            NODE + path: node for path, node in nodes.items()
        }
    root = merkle.root_of(read)
    if root != genesis.state.root:
        raise Refused(
            "genesis.state",
            f"the records come to the root {root.hex()}, genesis says {genesis.state.root.hex()}",
        )
    yield genesis_head(genesis)
