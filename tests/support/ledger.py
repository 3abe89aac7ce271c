"""A small chain whose story reads like chat, and a bookkeeper who recounts everything after every block.

world = World("alice", "bob", "paul")
alice, bob = world.actors("alice", "bob")
world.block(alice.pays(bob, 5))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fondaco.consensus.ledger.application import Execution, Ledger, genesis_writes
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.stakes import stake_of
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate, SignedVote, Vote, VoteKind
from fondaco.protocol.events import Burnt, Event, Minted, TransactionApplied
from fondaco.protocol.market import (
    Bid,
    Order,
    Receipt,
    SignedBid,
    SignedOrder,
    SignedReceipt,
    deployment_id,
    lease_id,
    order_id,
)
from fondaco.protocol.messages import (
    Action,
    Activate,
    Alive,
    Attest,
    Bond,
    Burn,
    CastVote,
    ChangeParameters,
    Choice,
    CloseDeployment,
    CloseLease,
    Deposit,
    Faucet,
    ForkTemplate,
    Message,
    Mint,
    OpenLease,
    ParameterChange,
    Propose,
    Reclaim,
    RegisterProvider,
    RegisterTemplate,
    Resolution,
    Retire,
    Revoke,
    SetParams,
    Transfer,
    Unbond,
    Withdraw,
)
from fondaco.protocol.records import (
    Account,
    Deployment,
    Lease,
    Proposal,
    Provider,
    Stake,
    key_account,
    key_deployment,
    key_lease,
    key_proposal,
    key_provider,
    template_id,
)
from fondaco.protocol.resources import Attribute, Group, Placement, Resources, ResourceUnit
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
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
    SealingKey,
    TemplateId,
)
from fondaco.protocol.signing import Signer, sha256
from fondaco.protocol.transactions import SignedTransaction, sign_transaction

START = Millis(1_700_000_000_000)
MINUTE, HOUR = 60_000, 3_600_000
RICH = 1_000_000_000
UNIT = ResourceUnit(
    id=1,
    resources=Resources(
        cpu_milli=100,
        cpu_attributes=(),
        memory_bytes=2**20,
        memory_attributes=(),
        gpu_units=0,
        gpu_attributes=(),
        volumes=(),
        endpoints=(),
    ),
    count=1,
)
ANYWHERE = Placement(attributes=(), all_of=(), any_of=())
COMMITMENT = Hash(bytes(range(32)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What somebody wants done: a transaction before it is signed."""

    sender: Actor
    messages: tuple[Message, ...]
    tip: int = 0
    lives_ms: int = MINUTE

    def __and__(self, other: Draft) -> Draft:
        """Both, or neither."""
        assert self.sender is other.sender
        return replace(self, messages=self.messages + other.messages)

    @property
    def deployment(self) -> DeploymentId:
        """The one that the first message opens."""
        message = self.messages[0]
        assert isinstance(message, OpenLease)
        return deployment_id(order_id(self.sender.world.chain, message.order.order))

    @property
    def leases(self) -> list[LeaseId]:
        message = self.messages[0]
        assert isinstance(message, OpenLease)
        return [lease_id(self.deployment, GroupIndex(index)) for index in range(len(message.bids))]

    @property
    def lease(self) -> LeaseId:
        return self.leases[0]


class Actor:
    """Somebody with a key: tenant, provider, stranger or validator."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.signer = Signer(sha256(name.encode()))
        self.key = self.signer.public_key

    def __repr__(self) -> str:
        return self.name

    @property
    def account(self) -> Account:
        return self.world.account(self.key)

    @property
    def credits(self) -> int:
        return self.account.credits

    @property
    def stake(self) -> int:
        return self.account.stake

    def does(self, *messages: Message, tip: int = 0, lives_ms: int = MINUTE) -> Draft:
        return Draft(sender=self, messages=messages, tip=tip, lives_ms=lives_ms)

    def pays(self, other: Actor, amount: int) -> Draft:
        return self.does(Transfer(to=other.key, amount=MicroCredits(amount)))

    def asks_faucet(self, credits: int, stake: int = 0) -> Draft:
        return self.does(Faucet(credits=MicroCredits(credits), stake=MicroStake(stake)))

    def bonds(self, amount: int) -> Draft:
        return self.does(Bond(amount=MicroStake(amount)))

    def unbonds(self, amount: int) -> Draft:
        return self.does(Unbond(amount=MicroStake(amount)))

    def sets(self, **values: int) -> Draft:
        changes = (ParameterChange(name=name, value=value) for name, value in sorted(values.items()))
        return self.does(SetParams(changes=tuple(changes)))

    def votes(self, height: int, what: Hash | None, *, round: int = 0, precommit: bool = False) -> SignedVote:
        vote = Vote(
            kind=VoteKind.PRECOMMIT if precommit else VoteKind.PREVOTE,
            height=Height(height),
            round=Round(round),
            value=what,
            valid_round=None,
        )
        return SignedVote(vote=vote, validator=self.key, signature=self.signer.sign(self.world.chain, vote))

    def registers(self, bond: int = 1_000_000, attributes: Sequence[tuple[str, str]] = (), **other: Any) -> Draft:
        message = RegisterProvider(
            attributes=tuple(Attribute(key=key, value=value) for key, value in attributes),
            peer="peer",
            addresses=("/ip4/127.0.0.1/tcp/1",),
            sealing_key=SealingKey(bytes(32)),
            bond=MicroStake(bond),
        )
        return self.does(replace(message, **other))

    def attests(
        self,
        provider: Actor,
        attributes: Sequence[tuple[str, str]],
        *,
        for_ms: int = HOUR,
        evidence: Hash = COMMITMENT,
    ) -> Draft:
        """Holds for so long from the block on that comes a second (or `ahead_ms`) later."""
        ahead = self.world.ahead_ms or 1_000
        return self.does(
            Attest(
                provider=provider.key,
                attributes=tuple(Attribute(key=key, value=value) for key, value in attributes),
                expires_at=Millis(self.world.now + ahead + for_ms),
                evidence=evidence,
            )
        )

    def revokes(self, provider: Actor, auditor: Actor) -> Draft:
        return self.does(Revoke(provider=provider.key, auditor=auditor.key))

    def mints(self, to: Actor, amount: int) -> Draft:
        return self.does(Mint(to=to.key, amount=MicroCredits(amount)))

    def burns(self, amount: int) -> Draft:
        return self.does(Burn(amount=MicroCredits(amount)))

    def proposes(self, action: Action | None = None, *, deposit: int = 10, **other: Any) -> Draft:
        """A resolution, unless told of something to do."""
        message = Propose(
            title="a proposal", text="why", action=action or Resolution(), deposit=MicroCredits(deposit)
        )
        return self.does(replace(message, **other))

    def proposes_to_set(self, **values: int) -> Draft:
        changes = (ParameterChange(name=name, value=value) for name, value in sorted(values.items()))
        return self.proposes(ChangeParameters(changes=tuple(changes)))

    def says(self, choice: Choice, proposal: int = 1) -> Draft:
        return self.does(CastVote(proposal=ProposalNumber(proposal), choice=choice))

    def registers_template(self, points: int, *, content: Hash = COMMITMENT, title: str = "a service") -> Draft:
        return self.does(RegisterTemplate(content=content, title=title, royalty_basis_points=points))

    def forks(
        self, parent: TemplateId, points: int, *, content: Hash = COMMITMENT, title: str = "a fork"
    ) -> Draft:
        return self.does(ForkTemplate(parent=parent, content=content, title=title, royalty_basis_points=points))

    def template(self, content: Hash = COMMITMENT) -> TemplateId:
        return template_id(self.key, content)

    def order(self, *groups: Group, **other: Any) -> SignedOrder:
        order = Order(
            tenant=self.key,
            groups=groups,
            commitments=(COMMITMENT,) * len(groups),
            reclamation_window_ms=Millis(0),
            deposit=MicroCredits(0),
            reply_peers=(),
            expires_at=Millis(self.world.now + self.world.ahead_ms + 10 * MINUTE),
            salt=self.world.salt(),
        )
        order = replace(order, **other)
        return SignedOrder(order=order, signature=self.signer.sign(self.world.chain, order))

    def bid(self, order: SignedOrder, price: int, group: int = 0, **other: Any) -> SignedBid:
        bid = Bid(
            order=order_id(self.world.chain, order.order),
            group=GroupIndex(group),
            provider=self.key,
            price_per_hour=MicroCredits(price),
            units=order.order.groups[group].units,
            reclamation_window_ms=Millis(0),
            peer="peer",
            addresses=("/ip4/127.0.0.1/tcp/1",),
            serial=0,
            expires_at=Millis(self.world.now + self.world.ahead_ms + MINUTE),
        )
        bid = replace(bid, **other)
        return SignedBid(bid=bid, signature=self.signer.sign(self.world.chain, bid))

    def opens(self, order: SignedOrder, *bids: SignedBid, deposit: int) -> Draft:
        return self.does(OpenLease(order=order, bids=bids, deposit=MicroCredits(deposit)))

    def leases(
        self,
        *offers: tuple[Actor, int],
        deposit: int,
        placement: Placement = ANYWHERE,
        template: TemplateId | None = None,
        **bid: Any,
    ) -> Draft:
        """Order one group for each (provider, price an hour), and take these bids."""
        groups = (
            a_group(f"group{place}", price=price, placement=placement) for place, (_, price) in enumerate(offers)
        )
        order = self.order(*groups, template=template)
        bids = [provider.bid(order, price, place, **bid) for place, (provider, price) in enumerate(offers)]
        return self.opens(order, *bids, deposit=deposit)

    def deposits(self, deployment: DeploymentId, amount: int) -> Draft:
        return self.does(Deposit(deployment=deployment, amount=MicroCredits(amount)))

    def receipt(self, lease: LeaseId, **other: Any) -> SignedReceipt:
        receipt = replace(Receipt(lease=lease, version=1, commitment=COMMITMENT), **other)
        return SignedReceipt(receipt=receipt, signature=self.signer.sign(self.world.chain, receipt))

    def activates(self, *leases: LeaseId, receipt_of: Actor) -> Draft:
        return self.does(*(Activate(receipt=receipt_of.receipt(lease)) for lease in leases))

    def withdraws(self, *leases: LeaseId) -> Draft:
        return self.does(*(Withdraw(lease=lease) for lease in leases))

    def lives(self) -> Draft:
        return self.does(Alive())

    def retires(self, *, reclaim: bool = False) -> Draft:
        return self.does(Retire(reclaim=reclaim))

    def reclaims(self, lease: LeaseId, *, reason: int = 10_000) -> Draft:
        return self.does(Reclaim(lease=lease, reason=reason))

    def closes_all(self, deployment: DeploymentId, *, reason: int = 0) -> Draft:
        return self.does(CloseDeployment(deployment=deployment, reason=reason))

    def closes(self, *leases: LeaseId, reason: int = 0) -> Draft:
        return self.does(*(CloseLease(lease=lease, reason=reason) for lease in leases))


def a_group(name: str = "group0", *, price: int = 1_000, **other: Any) -> Group:
    group = Group(name=name, units=(UNIT,), placement=ANYWHERE, max_price_per_hour=MicroCredits(price))
    return replace(group, **other)


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
