"""A small chain whose story reads like chat, and a bookkeeper who recounts everything after every block.

world = World("alice", "bob", "paul")
alice, bob = world.actors("alice", "bob")
world.block(alice.pays(bob, 5))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.actors import ANYWHERE, COMMITMENT, HOUR, MINUTE, Actor, Draft, a_group

from fondaco.consensus.ledger.application import Execution, Ledger, genesis_writes
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.stakes import stake_of
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.samples import UNIT
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.events import Burnt, Event, Minted, TransactionApplied
from fondaco.protocol.records import (
    Account,
    Deployment,
    Lease,
    Proposal,
    Provider,
    SpendingGrant,
    Stake,
    key_account,
    key_deployment,
    key_grant,
    key_lease,
    key_proposal,
    key_provider,
)
from fondaco.protocol.scalars import (
    DeploymentId,
    Height,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    Power,
    ProposalNumber,
    PublicKey,
    Round,
    Salt,
)
from fondaco.protocol.transactions import SignedTransaction, sign_transaction

__all__ = [
    "ANYWHERE",
    "COMMITMENT",
    "FREE",
    "HOUR",
    "MINUTE",
    "RICH",
    "START",
    "UNIT",
    "Actor",
    "Draft",
    "World",
    "a_group",
    "codes",
    "entries",
    "of_kind",
]

START = Millis(1_700_000_000_000)
RICH = 1_000_000_000
FREE: dict[str, int] = {
    "fee_base": 0,
    "fee_per_byte": 0,
    "min_deposit": 1,
    "min_runway_ms": 1_000,
    "alive_cover_ms": 30 * 24 * HOUR,
}
"""Parameters under which a balance tells of nothing but the market."""


class World:
    """A chain over a store in memory: every block is made, judged again from nothing, and kept.

    It has one validator of power 10 unless told of others; all sign every block but those in `absent`.
    """

    ahead_ms = 0
    """How far after the newest block the next one will be; orders and bids live from there."""
    judged = True
    """Whether a second ledger, with nothing remembered, judges every block."""

    def __init__(
        self,
        *names: str,
        credits: int = RICH,
        stake: int = RICH,
        validators: Any = None,
        authority: Any = None,
        issuer: Any = None,
        initial_height: int = 1,
        **params: Any,
    ) -> None:
        powers: dict[str, int] = {"validator": 10} if validators is None else validators
        self._actors = {name: Actor(self, name) for name in dict.fromkeys((*powers, *names))}
        self.absent: set[str] = set()
        self.by_key = {actor.key: actor for actor in self._actors.values()}
        self.validator = self._actors[next(iter(powers))]
        self.genesis = Genesis(
            name="world",
            time=START,
            initial_height=Height(initial_height),
            params=Params(**params),
            validators=tuple(
                GenesisValidator(key=self._actors[name].key, power=Power(power)) for name, power in powers.items()
            ),
            accounts=tuple(
                GenesisAccount(
                    owner=self._actors[name].key, credits=MicroCredits(credits), stake=MicroStake(stake)
                )
                for name in names
            ),
            auditors=(),
            authority=None if authority is None else self._actors[authority].key,
            issuer=None if issuer is None else self._actors[issuer].key,
        )
        self.chain = self.genesis.chain
        self.store = MemoryStore(_alive(genesis_writes(self.genesis)))
        self.ledger = Ledger(self.store, self.chain)
        self.certificate: CommitCertificate | None = None
        self.blocks: list[Execution] = []
        self.minted: Counter[str] = Counter()
        self._salts = 0

    @property
    def now(self) -> Millis:
        return self.ledger.head.time

    def actors(self, *names: str) -> list[Actor]:
        return [self._actors[name] for name in names]

    def salt(self) -> Salt:
        self._salts += 1
        return Salt(self._salts.to_bytes(16, "big"))

    def sign(self, draft: Draft, *, at: Millis | None = None, **other: Any) -> bytes:
        """The bytes of a transaction for a block at `at`."""
        now = self.now + 1_000 if at is None else at
        signed = sign_transaction(
            draft.sender.signer,
            self.chain,
            draft.messages,
            expires_at=Millis(now + draft.lives_ms),
            salt=self.salt(),
            tip=MicroCredits(draft.tip),
        )
        if other:
            transaction = replace(signed.transaction, **other)
            signature = draft.sender.signer.sign(transaction.chain, transaction)
            signed = SignedTransaction(transaction=transaction, signature=signature)
        return codec.encode(signed)

    def propose(self, *drafts: Draft | bytes, after_ms: int = 1_000, evidence: Sequence[bytes] = ()) -> Block:
        """A block that a validator would propose; nothing is kept."""
        time = Millis(self.now + after_ms)
        return self.ledger.prepare_proposal(
            time=time,
            proposer=self.ledger.validators.members[0].public_key,
            previous_certificate=self.certificate,
            evidence=evidence,
            candidates=[one if isinstance(one, bytes) else self.sign(one, at=time) for one in drafts],
        )

    def block(self, *drafts: Draft | bytes, after_ms: int = 1_000, evidence: Sequence[bytes] = ()) -> Execution:
        """Make and keep the next block. A draft that cannot be included fails the test."""
        block = self.propose(*drafts, after_ms=after_ms, evidence=evidence)
        assert len(block.transactions) == len(drafts), "a transaction was left out of the block"
        return self.keep(block)

    def keep(self, block: Block) -> Execution:
        deciders = self.ledger.validators
        execution = self.ledger.finalize_block(block)
        if self.judged:
            judge = Ledger(self.store, self.chain)
            assert judge.finalize_block(block) == execution
        self.store.apply(execution.writes)
        self.ledger.committed()
        self.certificate = self.certify(block, deciders)
        self.blocks.append(execution)
        for event in of_kind(execution.events, Minted):
            self.minted.update(credits=event.credits, stake=event.stake)
        for burnt in of_kind(execution.events, Burnt):
            self.minted["credits"] -= burnt.credits
        return execution

    def certify(self, block: Block, deciders: ValidatorSet) -> CommitCertificate:
        certificate = CommitCertificate(
            height=block.header.height, round=Round(0), value=block.header.hash(), signatures=()
        )
        actors = [self.by_key[member.public_key] for member in deciders.members]
        signatures = [
            None if actor.name in self.absent else actor.signer.sign(self.chain, certificate.vote())
            for actor in actors
        ]
        return replace(certificate, signatures=tuple(signatures))

    def powers(self) -> dict[str, int]:
        """Who decides the next height, by name."""
        return {self.by_key[member.public_key].name: member.power for member in self.ledger.validators.members}

    def stake_behind(self, actor: Actor) -> Stake:
        return stake_of(self.ledger.state(), actor.key)

    def code(self, *drafts: Draft, after_ms: int = 1_000) -> str:
        """Keep a block of these and return the last one's refusal; empty if it took effect."""
        return codes(self.block(*drafts, after_ms=after_ms).events)[-1]

    def account(self, key: PublicKey) -> Account:
        nothing = Account(credits=MicroCredits(0), stake=MicroStake(0))
        return self.ledger.state().get(key_account(key), Account) or nothing

    def deployment(self, identity: DeploymentId) -> Deployment:
        return self.ledger.state().require(key_deployment(identity), Deployment)

    def provider(self, actor: Actor) -> Provider:
        return self.ledger.state().require(key_provider(actor.key), Provider)

    def lease(self, identity: LeaseId) -> Lease:
        return self.ledger.state().require(key_lease(identity), Lease)

    def proposal(self, number: int = 1) -> Proposal:
        return self.ledger.state().require(key_proposal(ProposalNumber(number)), Proposal)

    def grant(self, granter: Actor, grantee: Actor) -> SpendingGrant | None:
        return self.ledger.state().get(key_grant(granter.key, grantee.key), SpendingGrant)

    def newest(self, deployment: DeploymentId, group: int = 0) -> Lease:
        """The lease that serves a group now."""
        leases = map(self.lease, self.deployment(deployment).leases)
        return next(lease for lease in leases if lease.group == group)

    def funds(self, identity: DeploymentId) -> int:
        return sum(deposit.amount for deposit in self.deployment(identity).deposits)


def codes(events: Sequence[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, TransactionApplied)]


def of_kind(events: Sequence[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def _alive(writes: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    return {key: value for key, value in writes.items() if value is not None}


def entries(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"\xff", 10**9))
