"""The real ledger of a simulated node, over a store that holds what was committed and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus import merkle
from fondaco.consensus.ledger.application import Execution, Head, Ledger, genesis_writes
from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import CREDIT, Params
from fondaco.consensus.ledger.state import NODE, MemoryStore
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.records import VALIDATORS, ValidatorSets
from fondaco.protocol.scalars import Hash, Height, MicroCredits, MicroStake, Millis, Power, PublicKey
from fondaco.protocol.signing import Verify

EPOCH_MS = 1_700_000_000_000
"""What the clocks of the world show when it begins."""

HURRIED = Params(
    faucet_credits=MicroCredits(50 * CREDIT),
    faucet_stake=MicroStake(2 * CREDIT),
    min_runway_ms=Millis(1_000),
    handoff_window_ms=Millis(5_000),
    grace_ms=Millis(4_000),
    alive_cover_ms=Millis(15_000),
    fault_after_ms=Millis(25_000),
    proposal_deposit=MicroCredits(CREDIT // 10),
    voting_ms=Millis(3_000),
    quorum_basis_points=2_500,
    due_per_block=5,
)
"""A market whose hours are seconds: in a run of half a minute hand-offs lapse and escrows run dry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What somebody owns when the world begins."""

    owner: PublicKey
    credits: int
    stake: int


def genesis_of(
    validators: list[tuple[PublicKey, int]],
    balances: list[Balance],
    *,
    initial_height: int = 1,
    issuer: PublicKey | None = None,
) -> Genesis:
    return Genesis(
        name="simulated",
        time=Millis(EPOCH_MS - 1_000),
        initial_height=Height(initial_height),
        params=HURRIED,
        validators=tuple(GenesisValidator(key=key, power=Power(power)) for key, power in validators),
        accounts=tuple(
            GenesisAccount(owner=one.owner, credits=MicroCredits(one.credits), stake=MicroStake(one.stake))
            for one in balances
        ),
        auditors=(),
        issuer=issuer,
    )


def store_of(genesis: Genesis) -> MemoryStore:
    """A new node's store."""
    store = MemoryStore()
    store.apply(genesis_writes(genesis))
    return store


def entries(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"\xff", 10**9))


def root(store: MemoryStore) -> Hash:
    """The state root as the store has it, whatever any header says."""

    def node(path: bytes) -> bytes | None:
        return store.get(NODE + path)

    return merkle.root_of(node)


class LedgerApplication:
    """One life of a node's ledger. What was executed ahead dies with it; the store is the disk's."""

    def __init__(self, genesis: Genesis, store: MemoryStore, verify: Verify, envelopes: Envelopes) -> None:
        self.store = store
        self.ledger = Ledger(store, genesis.chain, check=verify, envelopes=envelopes)

    @property
    def head(self) -> Head:
        return self.ledger.head

    @property
    def validators(self) -> ValidatorSet:
        return self.ledger.validators

    @property
    def previous_validators(self) -> ValidatorSet | None:
        last = self.ledger.state().require(VALIDATORS, ValidatorSets).last
        return ValidatorSet(members=last) if last else None

    def admits(self, transaction: bytes, *, now: Millis) -> bool:
        """Whether a block at `now` could hold it and it would do something."""
        try:
            self.ledger.check_tx(transaction, now=now)
        except (Refused, PeerFault):
            return False
        return True

    def next_due_moment(self) -> Millis | None:
        return self.ledger.next_due_moment()

    def prepare(
        self,
        *,
        time: Millis,
        proposer: PublicKey,
        previous_certificate: CommitCertificate | None,
        transactions: tuple[bytes, ...],
    ) -> Block:
        return self.ledger.prepare_proposal(
            time=time,
            proposer=proposer,
            previous_certificate=previous_certificate,
            candidates=transactions,
        )

    def process(self, block: Block) -> bool:
        try:
            self.ledger.process_proposal(block)
        except Refused:
            return False
        return True

    def apply(self, block: Block) -> Execution:
        """The block is final. Raises `Refused` where it breaks a rule: then agreement itself has failed."""
        execution = self.ledger.finalize_block(block)
        self.store.apply(execution.writes)
        self.ledger.committed()
        return execution
