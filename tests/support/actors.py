"""People whose story reads like chat: what each of them may want done, as drafts of transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fondaco.node.samples import UNIT
from fondaco.protocol.agreement import SignedVote, Vote, VoteKind
from fondaco.protocol.market import (
    Bid,
    Order,
    Receipt,
    Replaced,
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
    GrantSpending,
    Message,
    Mint,
    OpenLease,
    ParameterChange,
    Propose,
    Reclaim,
    RegisterProvider,
    RegisterTemplate,
    ReplaceLease,
    Resolution,
    Retire,
    Revoke,
    RevokeSpending,
    Scope,
    SetParams,
    Transfer,
    Unbond,
    UpdateManifest,
    Withdraw,
)
from fondaco.protocol.records import Account, Deployment, key_deployment, template_id
from fondaco.protocol.resources import Attribute, Group, Placement
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
    Height,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    ProposalNumber,
    Round,
    SealingKey,
    TemplateId,
)
from fondaco.protocol.signing import Signer, sha256

if TYPE_CHECKING:
    from tests.support.ledger import World

MINUTE, HOUR = 60_000, 3_600_000
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
        payer: Actor | None = None,
        **bid: Any,
    ) -> Draft:
        """Order one group for each (provider, price an hour), and take these bids."""
        groups = (
            a_group(f"group{place}", price=price, placement=placement) for place, (_, price) in enumerate(offers)
        )
        source = None if payer is None else payer.key
        order = self.order(*groups, template=template, payer=source)
        bids = [provider.bid(order, price, place, **bid) for place, (provider, price) in enumerate(offers)]
        return self.opens(order, *bids, deposit=deposit)

    def deposits(self, deployment: DeploymentId, amount: int, *, payer: Actor | None = None) -> Draft:
        source = None if payer is None else payer.key
        return self.does(Deposit(deployment=deployment, amount=MicroCredits(amount), payer=source))

    def grants(self, to: Actor, limit: int, *, scope: Scope = Scope.ANY, for_ms: int = HOUR) -> Draft:
        """Holds for so long from the next block on, as `attests`."""
        ahead = self.world.ahead_ms or 1_000
        expires_at = Millis(self.world.now + ahead + for_ms)
        return self.does(
            GrantSpending(grantee=to.key, limit=MicroCredits(limit), scope=scope, expires_at=expires_at)
        )

    def ends_grant(self, to: Actor) -> Draft:
        return self.does(RevokeSpending(grantee=to.key))

    def updates(self, deployment: DeploymentId, commitment: Hash, *, group: int = 0) -> Draft:
        return self.does(UpdateManifest(deployment=deployment, group=GroupIndex(group), commitment=commitment))

    def reorder(
        self, deployment: DeploymentId, *, group: int = 0, price: int = 1_000, **other: Any
    ) -> SignedOrder:
        """An order for another provider of a group."""
        record = self.world.ledger.state().get(key_deployment(deployment), Deployment)
        leases = [] if record is None else map(self.world.lease, record.leases)
        generation = next((lease.generation + 1 for lease in leases if lease.group == group), 1)
        replaces = Replaced(deployment=deployment, group=GroupIndex(group), generation=generation)
        return self.order(a_group(price=price), **{"replaces": replaces, **other})

    def replaces(
        self, deployment: DeploymentId, order: SignedOrder, bid: SignedBid, *, group: int = 0, reason: int = 2
    ) -> Draft:
        return self.does(
            ReplaceLease(deployment=deployment, group=GroupIndex(group), order=order, bid=bid, reason=reason)
        )

    def moves(
        self, deployment: DeploymentId, to: Actor, price: int, *, group: int = 0, reason: int = 2, **order: Any
    ) -> Draft:
        """Give a group to another provider, at its bid."""
        signed = self.reorder(deployment, group=group, price=price, **order)
        return self.replaces(deployment, signed, to.bid(signed, price), group=group, reason=reason)

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
