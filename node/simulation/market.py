"""What people do on a simulated chain: a market drawn from one seed, with its mishaps and its cheats.

Each call of `Market.transact` looks at the chain through one node, which may lag, and makes the next
transaction of somebody. Most make sense; some ask for what the rules refuse, some were made before, some are no
transactions at all. What became of each is not followed: the chain is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.params import CREDIT
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.ledger import HURRIED, Balance
from fondaco.node.simulation.public import Public
from fondaco.node.simulation.trust import Trust
from fondaco.protocol import codec, limits, reasons
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
    Activate,
    Alive,
    CloseDeployment,
    CloseLease,
    Deposit,
    Faucet,
    Message,
    OpenLease,
    Reclaim,
    RegisterProvider,
    Retire,
    Transfer,
    Withdraw,
)
from fondaco.protocol.records import (
    Deployment,
    DeploymentState,
    Lease,
    LeaseState,
    Provider,
    key_deployment,
    key_lease,
    key_provider,
)
from fondaco.protocol.resources import Group, Resources, ResourceUnit
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    PublicKey,
    Salt,
    SealingKey,
    TemplateId,
)
from fondaco.protocol.signing import sha256
from fondaco.protocol.transactions import VERSION, SignedTransaction, Transaction

PEOPLE = 5
"""Tenants, and as many providers."""
PRICES = (CREDIT, 30 * CREDIT)
"""An hour. They divide no hour evenly, so that every settlement has something to round."""
REMEMBERED = 50
COMMITMENT = sha256(b"a manifest")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A deployment somebody asked for; the chain may have refused it."""

    id: DeploymentId
    tenant: PublicKey
    leases: tuple[tuple[LeaseId, PublicKey], ...]
    """Each with its provider."""
    abandoned: bool
    """Nobody will hand it over: it lapses."""


class Market:
    """`balances` go into the genesis; then `transact` again and again."""

    def __init__(self, seed: int, scheme: Scheme) -> None:
        self.random = Random(f"market {seed}")
        self._scheme = scheme
        self.tenants = [scheme.key(f"tenant {number}") for number in range(PEOPLE)]
        self.providers = [scheme.key(f"provider {number}") for number in range(PEOPLE)]
        self._public = Public(seed, self.tenants)
        self._trust = Trust(seed, scheme, self.providers)
        self._opened: list[Opened] = []
        self._said: list[bytes] = []
        self._chain = ChainId("?")
        self._now = Millis(0)

    @property
    def balances(self) -> list[Balance]:
        """All can pay their fees but the last of each kind, who needs the faucet first."""
        return [
            Balance(owner=key, credits=500 * CREDIT if place % PEOPLE < PEOPLE - 1 else 0, stake=3 * CREDIT)
            for place, key in enumerate(self.tenants + self.providers)
        ] + self._trust.balances

    @property
    def issuer(self) -> PublicKey:
        """Who may mint, as the genesis names him."""
        return self._trust.issuer

    def transact(self, view: Ledger, *, now: Millis) -> list[bytes]:
        """The next transaction; now and then two that cannot both take effect."""
        self._chain, self._now = view.chain, now
        said = self._public.next(view)
        if said is not None:
            sender, messages = said
            return [self._say(sender, *messages)]
        missing = [provider for provider in self.providers[:-1] if not _is_registered(view, provider)]
        if missing and self.random.random() < 0.7:
            made = [self._register(self.random.choice(missing))]
        else:
            actions: dict[Callable[[Ledger], list[bytes]], int] = {
                self._open: 6,
                self._act: 14,
                self._pay: 3,
                self._fill_up: 2,
                self._again: 1,
                self._cheat: 2,
                self._both: 1,
                self._retire: 1,
                self._both: 2,
                self._audit: 3,
            }
            (action,) = self.random.choices(list(actions), weights=list(actions.values()))
            made = action(view)
        self._said = [*self._said, *made][-REMEMBERED:]
        return made

    # Making transactions

    def _say(self, sender: PublicKey, *messages: Message, lives_ms: int | None = None) -> bytes:
        transaction = Transaction(
            version=VERSION,
            chain=self._chain,
            sender=sender,
            expires_at=Millis(self._now + (self.random.randint(3_000, 60_000) if lives_ms is None else lives_ms)),
            salt=self._salt(),
            tip=MicroCredits(self.random.choice((0, 0, 7))),
            messages=messages,
        )
        signature = self._scheme.sign(self._chain, sender, transaction)
        return codec.encode(SignedTransaction(transaction=transaction, signature=signature))

    def _salt(self) -> Salt:
        return Salt(self.random.randbytes(16))

    def _register(self, provider: PublicKey) -> bytes:
        message = RegisterProvider(
            attributes=self._trust.attributes(),
            peer="peer",
            addresses=("/ip4/127.0.0.1/tcp/1",),
            sealing_key=SealingKey(provider),
            bond=MicroStake(self.random.randint(1, 2) * CREDIT),
        )
        return self._say(provider, message)

    def _open(self, view: Ledger) -> list[bytes]:
        registered = [provider for provider in self.providers if _is_registered(view, provider)]
        asked = registered if registered and self.random.random() < 0.95 else self.providers
        return [self._lease(self.random.choice(self.tenants), asked, self._public.template(view))]

    def _lease(self, tenant: PublicKey, providers: list[PublicKey], template: TemplateId | None) -> bytes:
        """An order of one to three groups, the bids for it, and money for some seconds."""
        random = self.random
        prices = [random.randint(*PRICES) for _ in range(random.randint(1, 3))]
        window_ms = Millis(random.choice((0, 0, limits.RECLAMATION_WINDOW_MS[0])))
        order = Order(
            tenant=tenant,
            groups=tuple(
                Group(
                    name=f"group{place}",
                    units=(UNIT,),
                    placement=self._trust.placement(),
                    max_price_per_hour=MicroCredits(price - (random.random() < 0.03)),
                )
                for place, price in enumerate(prices)
            ),
            commitments=(COMMITMENT,) * len(prices),
            reclamation_window_ms=window_ms,
            deposit=MicroCredits(0),
            reply_peers=(),
            expires_at=Millis(self._now + random.randint(5_000, 60_000)),
            salt=self._salt(),
            template=template,
        )
        identity = order_id(self._chain, order)
        bids = tuple(
            Bid(
                order=identity,
                group=GroupIndex(place),
                provider=random.choice(providers),
                price_per_hour=MicroCredits(price),
                units=(UNIT,),
                reclamation_window_ms=window_ms,
                peer="peer",
                addresses=("/ip4/127.0.0.1/tcp/1",),
                serial=0,
                expires_at=Millis(self._now + limits.BID_LIFE_MS // 2),
            )
            for place, price in enumerate(prices)
        )
        deployment = deployment_id(identity)
        self._opened.append(
            Opened(
                id=deployment,
                tenant=tenant,
                leases=tuple(
                    (lease_id(deployment, GroupIndex(place)), bid.provider) for place, bid in enumerate(bids)
                ),
                abandoned=random.random() < 0.15,
            )
        )
        del self._opened[:-REMEMBERED]
        seconds = random.choice((1, 2, 4, 8, 30))
        return self._say(
            tenant,
            OpenLease(
                order=SignedOrder(order=order, signature=self._scheme.sign(self._chain, tenant, order)),
                bids=tuple(
                    SignedBid(bid=bid, signature=self._scheme.sign(self._chain, bid.provider, bid)) for bid in bids
                ),
                deposit=MicroCredits(sum(prices) * seconds // 3_600 + random.randint(-1, 50)),
            ),
        )

    def _alive(self, view: Ledger) -> list[tuple[Opened, Deployment]]:
        state, alive = view.state(), []
        for opened in self._opened:
            record = state.get(key_deployment(opened.id), Deployment)
            if record is not None and record.state != DeploymentState.CLOSED:
                alive.append((opened, record))
        return alive

    def _act(self, view: Ledger) -> list[bytes]:
        """Whatever comes next for some deployment that is alive."""
        alive = self._alive(view)
        if not alive:
            return self._open(view)
        opened, record = self.random.choice(alive)
        lease, provider = self.random.choice(opened.leases)
        of = view.state().require(key_lease(lease), Lease)
        if of.state == LeaseState.AWAITING and not opened.abandoned:
            return [self._say(provider, self._activation(lease, opened.tenant))]
        if record.state == DeploymentState.GRACE and self.random.random() < 0.7:
            return [self._deposit(opened)]
        if of.reclamation_window_ms and self.random.random() < 0.2:
            return [self._say(provider, Reclaim(lease=lease, reason=reasons.DECOMMISSION))]
        match self.random.choices(("withdraw", "deposit", "live", "close"), weights=(4, 3, 3, 2)):
            case ["withdraw"]:
                return [self._say(provider, *(Withdraw(lease=one) for one, by in opened.leases if by == provider))]
            case ["deposit"]:
                return [self._deposit(opened)]
            case ["live"]:
                return [self._say(provider, Alive())]
            case _:
                return [self._close(opened, lease, provider)]

    def _activation(self, lease: LeaseId, tenant: PublicKey) -> Activate:
        receipt = Receipt(lease=lease, version=1, commitment=COMMITMENT)
        return Activate(
            receipt=SignedReceipt(receipt=receipt, signature=self._scheme.sign(self._chain, tenant, receipt))
        )

    def _deposit(self, opened: Opened) -> bytes:
        sender = self.random.choice((opened.tenant, opened.tenant, *self.tenants))
        amount = MicroCredits(self.random.randint(900, 60_000))
        return self._say(sender, Deposit(deployment=opened.id, amount=amount))

    def _close(self, opened: Opened, lease: LeaseId, provider: PublicKey) -> bytes:
        match self.random.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                return self._say(opened.tenant, CloseLease(lease=lease, reason=reasons.CLOSED_BY_TENANT))
            case 5 | 6:
                return self._say(opened.tenant, CloseDeployment(deployment=opened.id, reason=reasons.NOT_SERVING))
            case 7:
                stranger = self.random.choice(self.tenants)
                return self._say(stranger, CloseLease(lease=lease, reason=reasons.FAULT))
            case _:
                return self._say(provider, CloseLease(lease=lease, reason=reasons.UNSTABLE))

    def _pay(self, view: Ledger) -> list[bytes]:
        """Transfers, too large and too small ones among them; some carry a second message that is refused."""
        sender, to = self.random.choice(self.tenants), self.random.choice(self.tenants + self.providers)
        amount = self.random.choice((0, 1, CREDIT, CREDIT, 2_000 * CREDIT))
        messages: list[Message] = [Transfer(to=to, amount=MicroCredits(amount))]
        if self.random.random() < 0.3:
            messages.append(Withdraw(lease=LeaseId(bytes(32))))
        return [self._say(sender, *messages)]

    def _fill_up(self, view: Ledger) -> list[bytes]:
        who = self.random.choice((self.tenants[-1], self.providers[-1]))
        if (
            who == self.providers[-1]
            and not _is_registered(view, who)
            and accounts.account_of(view.state(), who).credits
        ):
            return [self._register(who)]
        credits = self.random.choice((0, 1, HURRIED.faucet_credits, HURRIED.faucet_credits + 1))
        return [self._say(who, Faucet(credits=MicroCredits(credits), stake=MicroStake(0)))]

    def _audit(self, view: Ledger) -> list[bytes]:
        """An auditor or the issuer has a word to say; or a provider says something else of itself."""
        if self.random.random() < 0.2:
            return [self._register(self.random.choice(self.providers[:-1]))]
        return [self._say(*self._trust.next(view, now=self._now))]

    def _again(self, view: Ledger) -> list[bytes]:
        """What was said before, word for word."""
        return [self.random.choice(self._said)] if self._said else self._open(view)

    def _cheat(self, view: Ledger) -> list[bytes]:
        """What no honest wallet makes."""
        thief, victim = self.random.sample(self.tenants, 2)
        take = Transfer(to=thief, amount=MicroCredits(CREDIT))
        match self.random.randrange(6):
            case 0:
                return [self._say(victim, take)[:-1] + b"\x00"]
            case 1:
                return [self._say(thief, take, lives_ms=-1)]
            case 2:
                return [self._say(thief, take, lives_ms=limits.TX_LIFE_MS + 60_000)]
            case 3:
                self._chain = ChainId("another-chain")
                return [self._say(thief, take)]
            case 4:
                return [self.random.randbytes(self.random.randint(0, 200))]
            case _:
                lease = self._opened[-1].leases[0][0] if self._opened else LeaseId(bytes(32))
                return [self._say(thief, self._activation(lease, thief)), self._say(thief, Withdraw(lease=lease))]

    def _retire(self, view: Ledger) -> list[bytes]:
        """Providers that go come back: those that are missing register."""
        reclaim = self.random.random() < 0.2
        return [self._say(self.random.choice(self.providers), Retire(reclaim=reclaim))]

    def _both(self, view: Ledger) -> list[bytes]:
        """Two that each make sense and cannot both take effect: whichever comes second is refused in its block."""
        alive = self._alive(view)
        if alive and self.random.random() < 0.5:
            opened, _ = self.random.choice(alive)
            lease, provider = self.random.choice(opened.leases)
            return [
                self._say(opened.tenant, CloseLease(lease=lease, reason=1)),
                self._say(provider, CloseLease(lease=lease, reason=10_001)),
            ]
        (first,) = self._open(view)
        transaction = codec.decode(first, SignedTransaction).transaction
        return [first, self._say(transaction.sender, *transaction.messages)]


def _is_registered(view: Ledger, provider: PublicKey) -> bool:
    return view.state().get(key_provider(provider), Provider) is not None
