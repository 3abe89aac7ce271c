"""What one transaction costs a validator, part by part: processor time, of a small transfer.

The real mempool over the real ledger and database, in blocks as large as those of a busy chain. `verify` to
`commit` are what each validator does once for every transaction, `propose` what one of them does; `gossip` is to
send it to one neighbour and to take it in from one, in batches as they come at the goal.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import trio

from fondaco.consensus.ledger.genesis import Genesis, GenesisValidator
from fondaco.consensus.ledger.params import Params
from fondaco.node import clock
from fondaco.node.bench import Figure
from fondaco.node.bench.offering import PAYERS, payer, rich, transfer
from fondaco.node.chain import Chain
from fondaco.node.gossip import Gossip, Topic
from fondaco.node.mempool import Mempool
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import PeerId
from fondaco.protocol.agreement import CommitCertificate
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, Power, Round
from fondaco.protocol.signing import Signer, sha256

BLOCKS = 7
TRANSFERS = 500
BATCH = 20
"""What comes in a window of gossip at the goal."""
BATCHES = 100
VALIDATOR = Signer(sha256(b"bench validator"))
PARTS = ("verify", "codec", "admit", "propose", "apply", "commit")


def measure(home: Path) -> dict[str, Figure]:
    """Microseconds a transaction."""
    found = {f"{name}_us_per_tx": _us(value) for name, value in _ledger(home).items()}
    found["gossip_us_per_tx"] = _us(trio.run(_gossip))
    return found


class _Watch:
    """Processor seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[name] += time.process_time() - began


def _ledger(home: Path) -> dict[str, float]:
    """Medians over blocks, in seconds a transaction."""
    home.mkdir(parents=True)
    genesis = Genesis(
        name="bench",
        time=Millis(clock.now() - 1_000),
        initial_height=Height(1),
        params=Params(),
        validators=(GenesisValidator(key=VALIDATOR.public_key, power=Power(10)),),
        accounts=rich(),
        auditors=(),
    )
    rounds: list[dict[str, float]] = []
    with (
        closing(Chain.open(genesis, home / "one.db")) as chain,
        closing(Chain.open(genesis, home / "two.db")) as other,
    ):
        mempool = Mempool(chain)
        signers = [payer(number) for number in range(PAYERS)]
        for _ in range(BLOCKS + 1):
            raws = [transfer(chain.id, signers, number)[0] for number in range(TRANSFERS)]
            gc.collect()
            rounds.append(_block(chain, other, mempool, raws))
    return {name: statistics.median(one[name] for one in rounds[1:]) / TRANSFERS for name in PARTS}


def _block(chain: Chain, other: Chain, mempool: Mempool, raws: list[bytes]) -> dict[str, float]:
    """Admit these, propose them as the `other`, judge and commit."""
    watch = _Watch()
    with watch.part("codec"):
        reads = [chain.envelopes.read(raw) for raw in raws]
    with watch.part("verify"):
        assert all(map(mempool.verifier.holds, reads)), "the bench signs well"
    with watch.part("admit"):
        for raw in raws:
            mempool.add(raw)
    with watch.part("again"):
        for raw in raws:
            chain.envelopes.read(raw)
    watch.seconds["admit"] -= watch.seconds["again"]  # or its bytes would be decoded at both places
    for raw in raws:
        other.envelopes.open(raw)
    with watch.part("propose"):
        block = other.ledger.prepare_proposal(
            time=Millis(max(clock.now(), other.head.time + 1)),
            proposer=VALIDATOR.public_key,
            previous_certificate=other.certificate(),
            candidates=mempool.candidates(),
        )
    assert len(block.transactions) == len(raws), "a transaction was left out of the block"
    with watch.part("apply"):
        chain.ledger.process_proposal(block)
    unsigned = CommitCertificate(
        height=block.header.height, round=Round(0), value=Hash(block.header.hash()), signatures=()
    )
    certificate = replace(unsigned, signatures=(VALIDATOR.sign(chain.id, unsigned.vote()),))
    with watch.part("commit"):
        chain.commit(block, certificate)
    other.commit(block, certificate)
    return watch.seconds


async def _gossip() -> float:
    """Seconds an item, sent by one node and handled by another, both in this process."""
    signers = [payer(number) for number in range(PAYERS)]
    chain = ChainId("bench")
    items = [transfer(chain, signers, number)[0] for number in range(BATCH * BATCHES)]
    done, heard = trio.Event(), 0

    async def handle(batch: list[bytes], source: PeerId) -> Verdict:
        nonlocal heard
        heard += len(batch)
        if heard >= len(items):
            done.set()
        return Verdict.ACCEPT

    async with (
        open_host(sha256(b"one"), None) as one,
        open_host(sha256(b"two")) as two,
        trio.open_nursery() as nursery,
    ):
        sender, receiver = Gossip(one, chain), Gossip(two, chain)
        receiver.subscribe(Topic.TRANSACTIONS, handle)
        nursery.start_soon(sender.run)
        nursery.start_soon(receiver.run)
        await one.connect(two.addresses()[0])
        await sender.wait_for_subscribers(Topic.TRANSACTIONS)
        began = time.process_time()
        for first in range(0, len(items), BATCH):
            for item in items[first : first + BATCH]:
                sender.publish(Topic.TRANSACTIONS, item)
            await trio.sleep(0.02)
        await done.wait()
        took = time.process_time() - began
        nursery.cancel_scope.cancel()
    return took / len(items)


def _us(seconds: float) -> Figure:
    return Figure(value=round(seconds * 1e6, 1), unit="us")
