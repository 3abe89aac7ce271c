"""What a block costs a validator as the state grows: from its bytes to its records on the disk.

The real ledger over the real database, with real signatures and real syncs. Another ledger, with a view of its own
of the same file, proposes each block; the one that is measured has not seen its transactions before and has none
of their pages in its cache. Sizes take turns, block by block, so that what else the machine does meets all alike;
the parts are of blocks between those that are told as a whole.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import nacl.bindings

from fondaco.consensus import merkle
from fondaco.consensus.ledger import accounts, deployments, due, envelope
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.state import RECORD
from fondaco.node.bench import RECORDS, Figure, Result
from fondaco.node.bench import ledger_state as market
from fondaco.node.bench.ledger_state import VALIDATOR, Size
from fondaco.node.bench.stopwatch import Stopwatch
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.messages import Transfer
from fondaco.protocol.records import VALIDATORS, ValidatorSets, key_account
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey, Round, Signature
from fondaco.protocol.signing import sha256, verify

ROUNDS = 9
"""Blocks of each kind and size that are told as a whole, and as many that are told in parts."""
TRANSFERS = 1_000
LEASES = 200
BLOCK_MS = 1_000
SAMPLES = 200
"""Settlements, due moments and proofs, each measured for itself."""
FLAT_BLOCKS = 1_000
FLAT_TRANSFERS = 20
PARTS = ("verify", "codec", "execute", "records", "read", "tree", "commit")


class Bench:
    """A chain of one size under measurement."""

    def __init__(self, folder: Path, records: int) -> None:
        self.size = Size(records=records)
        self.label = label(records)
        self.path = folder / f"{records}.db"
        self.chain = market.chain_id()
        self.store = ChainStore.open(self.path)
        self.view = ChainStore.view(self.path)
        self.watch = Stopwatch()
        self.ledger = Ledger(self.store, self.chain, check=self._verify)
        self.proposer = Ledger(self.view, self.chain)
        self.random = random.Random(records)
        self.certificate: CommitCertificate | None = None
        self._check = verify
        self._salts = 0

    def close(self) -> None:
        self.view.close()
        self.store.close()

    def _verify(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        return self._check(key, data, signature)

    def salt(self) -> bytes:
        self._salts += 1
        return self._salts.to_bytes(16, "big")

    @property
    def now(self) -> Millis:
        """The time of the next block."""
        return Millis(self.proposer.head.time + BLOCK_MS)

    def registrations(self) -> list[bytes]:
        return [
            market.signed(market.provider(number), market.registration(), now=self.now, salt=self.salt())
            for number in range(market.PROVIDERS)
        ]

    def transfers(self, count: int = TRANSFERS) -> list[bytes]:
        """From anybody who can sign to anybody."""
        raws = []
        for _ in range(count):
            to = market.account_key(self.random.randrange(self.size.accounts))
            sender = market.account(self.random.randrange(self.size.able))
            message = Transfer(to=to, amount=MicroCredits(self.random.randrange(1, 1_000)))
            raws.append(market.signed(sender, message, now=self.now, salt=self.salt()))
        return raws

    def leases(self) -> list[bytes]:
        raws = []
        for _ in range(LEASES):
            tenant = market.account(self.random.randrange(self.size.able))
            by = market.provider(self.random.randrange(market.PROVIDERS))
            message = market.opening(tenant, by, now=self.now, salt=self.salt())
            raws.append(market.signed(tenant, message, now=self.now, salt=self.salt()))
        return raws

    def block(self, candidates: Sequence[bytes], *, in_parts: bool = False) -> float:
        """Propose and decide a block of these; the seconds it took, its parts in `watch` if they are wanted."""
        proposed = self.proposer.prepare_proposal(
            time=self.now,
            proposer=VALIDATOR.public_key,
            previous_certificate=self.certificate,
            candidates=candidates,
        )
        assert len(proposed.transactions) == len(candidates), "a transaction was left out of the block"
        raw, certificate = codec.encode(proposed), _certify(proposed)
        with ExitStack() as watching:
            if in_parts:
                self._watch(watching)
            began = time.perf_counter()
            with self.watch.part("codec"):
                block = codec.decode(raw, Block)
            self.ledger.process_proposal(block)
            execution = self.ledger.finalize_block(block)
            sets = self.ledger.state().require(VALIDATORS, ValidatorSets)
            self.store.commit_block(
                block, certificate, execution.writes, {block.header.height: codec.encode(sets.next)}
            )
            took = time.perf_counter() - began
        for ledger in (self.ledger, self.proposer):
            ledger.committed()
        self.certificate = certificate
        return took

    def _watch(self, watching: ExitStack) -> None:
        watch = self.watch
        watching.enter_context(
            watch.watching(
                (self, "_check", "verify"),
                (envelope, "decode_transaction", "codec"),
                (envelope, "signing_bytes", "codec"),
                (Records, "decode", "records"),
                (Records, "encode", "records"),
                (merkle, "update", "tree"),
                (self.store, "get", "read"),
                (self.store, "get_all", "read"),
                (self.store, "scan", "read"),
                (self.store, "commit_block", "commit"),
            )
        )
        watching.enter_context(watch.part("execute"))

    def settle(self) -> float:
        """Seconds to settle one deployment, seal and make it durable, as of the next block."""
        identity = market.deployment_of(self.random.randrange(self.size.deployments))
        began = time.perf_counter()
        state = self.ledger.state()
        work = deployments.load(state, identity, [])
        assert work is not None, "the bench names a deployment that is not there"
        deployments.settle(work, at=self.now)
        deployments.save(work)
        state.seal()
        took = time.perf_counter() - began
        self.store.commit(state.writes)
        return took

    def due(self) -> float:
        """Seconds to find the earliest due moment, and to file a deployment under another one."""
        began = time.perf_counter()
        state = self.ledger.state()
        first = due.next_moment(state)
        deployments.handle_due(state, [], now=self.now, limit=accounts.params_of(state).due_per_block)
        took = time.perf_counter() - began
        assert first is not None, "every deployment is due some time"
        return took

    def proof_bytes(self, *, present: bool) -> int:
        """Of one record, or of one that is not there; checked."""
        state = self.ledger.state()
        number = self.random.randrange(self.size.accounts)
        key = key_account(market.account_key(number) if present else PublicKey(sha256(self.salt())))
        value, proof = state.prove(key)
        assert (value is not None) == present
        assert merkle.holds(state.seal(), key, value, proof)
        return len(codec.encode(proof))


def measure(sizes: Sequence[int] = RECORDS) -> Result:
    """Medians over blocks in turn; parts, settlement, the due index, memory and proofs beside them."""
    with tempfile.TemporaryDirectory(prefix="fondaco-bench-") as folder, ExitStack() as open_chains:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as others:
            # By others, so that what it takes to make a state does not count as the memory of a node.
            list(others.map(market.populate, [Path(folder) / f"{records}.db" for records in sizes], sizes))
        chains = [open_chains.enter_context(closing(Bench(Path(folder), records))) for records in sizes]
        for chain in chains:
            chain.block(chain.registrations())
            for number in range(chain.size.able):
                market.account(number)  # or their keys would look like memory that blocks take
        gc.collect()
        gc.freeze()  # as a node does at its start
        figures: dict[str, Figure] = {}
        for kind, make in (("transfer", Bench.transfers), ("lease", Bench.leases)):
            figures |= _blocks(kind, make, chains)
        for chain in chains:
            figures |= _small(chain)
        figures |= _ratios(figures, chains)
        figures |= _flat(chains[len(chains) // 2])
        return Result(
            bench="ledger",
            parameters={
                "records": list(sizes),
                "transfers_a_block": TRANSFERS,
                "leases_a_block": LEASES,
                "blocks": ROUNDS,
            },
            figures=figures,
            limit=_limits(chains),
        )


def label(records: int) -> str:
    """1e5 for 100,000; the number itself where it is no power of ten."""
    power = len(str(records)) - 1
    return f"1e{power}" if records == 10**power else str(records)


def _blocks(kind: str, make: Callable[[Bench], list[bytes]], chains: Sequence[Bench]) -> dict[str, Figure]:
    whole, parts = defaultdict[str, list[float]](list), defaultdict[str, list[dict[str, float]]](list)
    for turn in range(2 * ROUNDS + 1):
        for chain in chains:
            candidates = make(chain)
            if turn % 2:
                chain.watch.seconds.clear()
                chain.block(candidates, in_parts=True)
                parts[chain.label].append(dict(chain.watch.seconds))
            elif turn:  # the first only warms up
                whole[chain.label].append(chain.block(candidates))
            else:
                chain.block(candidates)
    figures = {}
    for name, times in whole.items():
        figures[f"{kind}_block_ms_{name}"] = _ms(statistics.median(times))
    for name, counted in parts.items():
        for part in PARTS:
            median = statistics.median(one.get(part, 0.0) for one in counted)
            figures[f"{kind}_{part}_ms_{name}"] = _ms(median)
    return figures


def _ratios(figures: dict[str, Figure], chains: Sequence[Bench]) -> dict[str, Figure]:
    """What the largest costs, in that of each smaller one."""
    largest = chains[-1].label
    return {
        f"{kind}_{largest}_by_{chain.label}": Figure(
            value=round(
                figures[f"{kind}_block_ms_{largest}"].value / figures[f"{kind}_block_ms_{chain.label}"].value, 2
            ),
            unit="x",
        )
        for kind in ("transfer", "lease")
        for chain in chains[:-1]
    }


def _small(chain: Bench) -> dict[str, Figure]:
    """Settlement, the due index and proofs, one at a time."""
    settle = statistics.median(chain.settle() for _ in range(SAMPLES)) * 1e6
    due = statistics.median(chain.due() for _ in range(SAMPLES)) * 1e6
    proofs = [chain.proof_bytes(present=number % 2 == 0) for number in range(SAMPLES)]
    return {
        f"settle_us_{chain.label}": Figure(value=round(settle, 1), unit="us"),
        f"due_us_{chain.label}": Figure(value=round(due, 1), unit="us"),
        f"proof_bytes_{chain.label}": Figure(value=max(proofs), unit="B"),
    }


def _flat(chain: Bench) -> dict[str, Figure]:
    """How the memory of this process grows over many blocks, once caches are full."""
    for _ in range(FLAT_BLOCKS // 2):
        chain.block(chain.transfers(FLAT_TRANSFERS))
    before = _resident_mb()
    for _ in range(FLAT_BLOCKS):
        chain.block(chain.transfers(FLAT_TRANSFERS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        f"rss_growth_mb_{FLAT_BLOCKS}_blocks": Figure(value=round(_resident_mb() - before, 1), unit="MB"),
        "rss_peak_mb": Figure(value=round(peak, 1), unit="MB"),
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _limits(chains: Sequence[Bench]) -> dict[str, Figure]:
    """What as many bare signatures cost, and as many bare rows of the database as the transfers have accounts."""
    figures = {
        "verify_ms_of_transfers": _ms(_verify_s(TRANSFERS)),
        "verify_ms_of_leases": _ms(_verify_s(3 * LEASES)),
    }
    for chain in chains:
        read, write = _rows_s(chain)
        figures[f"read_rows_ms_{chain.label}"] = _ms(read)
        figures[f"write_rows_ms_{chain.label}"] = _ms(write)
    return figures


def _verify_s(count: int) -> float:
    public, secret = nacl.bindings.crypto_sign_seed_keypair(sha256(b"bench"))
    signed = nacl.bindings.crypto_sign(bytes(200), secret)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(count):
            nacl.bindings.crypto_sign_open(signed, public)
        times.append(time.perf_counter() - began)
    return min(times)


def _rows_s(chain: Bench) -> tuple[float, float]:
    """Seconds to read the records of so many random accounts, and to write them back durably."""
    reads, writes = [], []
    for _ in range(3):
        numbers = {chain.random.randrange(chain.size.accounts) for _ in range(2 * TRANSFERS)}
        keys = [RECORD + key_account(market.account_key(number)) for number in numbers]
        began = time.perf_counter()
        rows = {key: chain.store.get(key) for key in keys}
        reads.append(time.perf_counter() - began)
        began = time.perf_counter()
        chain.store.commit(rows)
        writes.append(time.perf_counter() - began)
    return min(reads), min(writes)


def _certify(block: Block) -> CommitCertificate:
    unsigned = CommitCertificate(
        height=block.header.height, round=Round(0), value=Hash(block.header.hash()), signatures=()
    )
    signature = VALIDATOR.sign(block.header.chain, unsigned.vote())
    return replace(unsigned, signatures=(signature,))


def _ms(seconds: float) -> Figure:
    return Figure(value=round(seconds * 1_000, 1), unit="ms")
