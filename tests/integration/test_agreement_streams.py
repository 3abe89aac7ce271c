"""Votes and proposals travel on streams of their own: gossip carries what markets and users say, no more."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.network import until

from fondaco.node import agreement, clock, gossip, testnet
from fondaco.node.app import Node, open_node
from fondaco.node.config import load, read_passphrase
from fondaco.node.gossip import Topic, decode_batch, topic_name
from fondaco.node.keys.keystore import Keystore
from fondaco.node.keys.sealing import random_salt
from fondaco.node.network.links import Links
from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    CommitCertificate,
    CompactProposal,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
    WireMessage,
)
from fondaco.protocol.errors import Malformed
from fondaco.protocol.evidence import Evidence
from fondaco.protocol.gossip import wire
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.messages import Faucet
from fondaco.protocol.scalars import Height, MicroCredits, MicroStake, Millis, Round
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import SignedTransaction, sign_transaction

Gossiped = SignedTransaction | SignedOrder | Answer
Agreed = WireMessage | Evidence
HEIGHTS = 5


@contextlib.asynccontextmanager
async def validators(home: Path, count: int) -> AsyncIterator[list[Node]]:
    """A network in this process, all connected."""
    plan = testnet.create(home, validators=count, providers=0)
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for member in plan.members:
            settings = load(home / "nodes" / member.name)
            nodes.append(await stack.enter_async_context(open_node(settings)))
        for node in nodes:
            await node.gossip.wait_for_subscribers(Topic.TRANSACTIONS, count - 1)
        yield nodes


def overheard(links: Links, hear: Callable[[bytes], None]) -> None:
    """Show every frame that comes in over `links` to `hear` as well."""
    plain = links._on_frame

    async def on_frame(peer: Any, payload: bytes) -> None:
        hear(payload)
        await plain(peer, payload)

    links._on_frame = on_frame


def decodes(raw: bytes, kinds: object) -> bool:
    try:
        codec.decode_union(raw, kinds)
    except Malformed:
        return False
    return True


async def test_votes_and_proposals_never_travel_over_gossip(tmp_path: Path) -> None:
    topics: Counter[str] = Counter()
    items: list[bytes] = []
    said: Counter[type] = Counter()

    def hear_gossip(payload: bytes) -> None:
        for message in wire.decode(payload).messages:
            topics[message.topic] += 1
            items.extend(decode_batch(message.data))

    def hear_agreement(payload: bytes) -> None:
        said[type(codec.decode_union(payload, Agreed))] += 1

    async with validators(tmp_path, 3) as nodes:
        for node in nodes:
            assert node.agreement.links is not None
            overheard(node.gossip.links, hear_gossip)
            overheard(node.agreement.links, hear_agreement)
        first = nodes[0].chain.head.height
        for height in range(first + 1, first + 1 + HEIGHTS):
            await nodes[height % 3].submit(a_transaction(tmp_path, nodes[0]))
            await until(partial(reached, nodes, height))
        chain = nodes[0].chain.id
    assert {SignedVote, SignedProposal, CommitCertificate} <= set(said)
    assert said[SignedVote] >= HEIGHTS * 2 * 3, "two votes of each that others need"
    assert set(topics) == {topic_name(chain, Topic.TRANSACTIONS)}
    assert len(items) >= HEIGHTS
    assert all(decodes(item, SignedTransaction) for item in items)
    assert not any(decodes(item, Agreed) for item in items)


async def test_proposals_name_their_transactions_and_a_validator_that_lacks_them_asks(tmp_path: Path) -> None:
    said: Counter[type] = Counter()

    def hear_agreement(payload: bytes) -> None:
        said[type(codec.decode_union(payload, Agreed))] += 1

    async with validators(tmp_path, 3) as nodes:
        for node in nodes:
            assert node.agreement.links is not None
            overheard(node.agreement.links, hear_agreement)
            node.agreement.proposals.rebuilder._whole_bytes = 0  # a block of one transaction would go whole
        ignorant = nodes[2].agreement.proposals.rebuilder
        ignorant._find = lambda _: None
        first = nodes[0].chain.head.height
        for height in range(first + 1, first + 1 + HEIGHTS):
            await nodes[0].submit(a_transaction(tmp_path, nodes[0]))
            await until(partial(reached, nodes, height))  # which takes the votes of all three
    assert said[CompactProposal] >= HEIGHTS
    assert said[SignedProposal] == 0
    assert ignorant.counters.asks > 0
    assert ignorant.counters.given_up == 0


def reached(nodes: list[Node], height: int) -> bool:
    return all(node.chain.head.height >= height for node in nodes)


def a_transaction(home: Path, node: Node) -> bytes:
    """One that costs nothing and changes a little."""
    signer = Keystore(home / "keys").load("tenant", read_passphrase(home)).signer()
    message = Faucet(credits=MicroCredits(1), stake=MicroStake(0))
    expires_at = Millis(clock.now() + 60_000)
    return codec.encode(
        sign_transaction(signer, node.chain.id, (message,), expires_at=expires_at, salt=random_salt())
    )


def test_what_gossip_takes_and_what_agreement_says_share_no_kind_and_no_protocol() -> None:
    tags = [_tags(Gossiped), _tags(Agreed)]
    assert not tags[0] & tags[1]
    assert agreement.PROTOCOL != gossip.PROTOCOL
    assert {str(topic) for topic in Topic} == {"orders", "bids", "transactions", "status"}


def _tags(kinds: Any) -> set[int]:
    return {kind.TAG for kind in kinds.__args__}


@pytest.mark.parametrize("topic", [Topic.TRANSACTIONS, Topic.ORDERS, Topic.BIDS])
async def test_a_vote_put_on_gossip_is_held_against_who_sent_it(tmp_path: Path, topic: Topic) -> None:
    async with validators(tmp_path, 2) as (one, two):
        signer = Signer(bytes(32))
        vote = Vote(kind=VoteKind.PREVOTE, height=Height(1), round=Round(0), value=None, valid_round=None)
        signed = SignedVote(vote=vote, validator=signer.public_key, signature=signer.sign(one.chain.id, vote))
        await one.gossip.wait_for_subscribers(topic)
        faults = two.host.counters.peer_faults
        one.gossip.publish(topic, codec.encode(signed))
        await until(lambda: two.host.counters.peer_faults > faults)
