"""What people do on a simulated chain: a market drawn from one seed, with its mishaps and its cheats.

Each call of `Market.transact` looks at the chain through one node, which may lag, and makes the next
transaction of somebody. Most make sense; some ask for what the rules refuse, some were made before, some are no
transactions at all. What became of each is not followed: the chain is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from fondaco.consensus.ledger import accounts, grants
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.params import CREDIT
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.ledger import HURRIED, Balance
from fondaco.node.simulation.orders import Orders
from fondaco.node.simulation.public import Public
from fondaco.node.simulation.trust import Trust
from fondaco.protocol import codec, limits, reasons
from fondaco.protocol.market import (
    Receipt,
    SignedReceipt,
    deployment_id,
    order_id,
)
from fondaco.protocol.messages import (
    Activate,
    Alive,
    CloseDeployment,
    CloseLease,
    Deposit,
    Faucet,
    GrantSpending,
    Message,
    Reclaim,
    RegisterProvider,
    Retire,
    RevokeSpending,
    Scope,
    Transfer,
    UpdateManifest,
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
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    PublicKey,
    Salt,
    SealingKey,
)
from fondaco.protocol.signing import sha256
from fondaco.protocol.transactions import VERSION, SignedTransaction, Transaction

PEOPLE = 5
"""Tenants, and as many providers."""
REMEMBERED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A deployment somebody asked for; the chain may have refused it."""

    id: DeploymentId
    tenant: PublicKey
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
        self._orders = Orders(self.random, scheme, self._trust)
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
        self._orders.chain, self._orders.now = view.chain, now
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
                self._grant: 1,
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
        tenant = self.random.choice(self.tenants)
        payer = self._payer(view, tenant)
        message = self._orders.opening(tenant, asked, self._public.template(view), payer)
        deployment = deployment_id(order_id(self._chain, message.order.order))
        self._opened.append(Opened(id=deployment, tenant=tenant, abandoned=self.random.random() < 0.15))
        del self._opened[:-REMEMBERED]
        return [self._say(tenant, message)]

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
        leases = [view.state().require(key_lease(lease), Lease) for lease in record.leases]
        lease = self.random.choice(leases)
        if lease.state == LeaseState.AWAITING and not opened.abandoned:
            return [self._say(lease.provider, self._activation(lease))]
        if record.state == DeploymentState.GRACE and self.random.random() < 0.7:
            return [self._deposit(view, opened)]
        if lease.reclamation_window_ms and self.random.random() < 0.2:
            return [self._say(lease.provider, Reclaim(lease=lease.id, reason=reasons.DECOMMISSION))]
        match self.random.choices(("withdraw", "deposit", "live", "close", "change"), weights=(4, 3, 3, 2, 2)):
            case ["withdraw"]:
                mine = (one.id for one in leases if one.provider == lease.provider)
                return [self._say(lease.provider, *map(_withdrawal, mine))]
            case ["deposit"]:
                return [self._deposit(view, opened)]
            case ["live"]:
                return [self._say(lease.provider, Alive())]
            case ["change"]:
                return [self._change(record, lease)]
            case _:
                return [self._close(opened, lease)]

    def _activation(self, lease: Lease) -> Activate:
        receipt = Receipt(lease=lease.id, version=lease.version, commitment=lease.commitment)
        return Activate(
            receipt=SignedReceipt(receipt=receipt, signature=self._scheme.sign(self._chain, lease.tenant, receipt))
        )

    def _change(self, record: Deployment, lease: Lease) -> bytes:
        """Something else is to run, or somebody else to run it."""
        if self.random.random() < 0.4:
            commitment = sha256(self.random.randbytes(1))
            update = UpdateManifest(deployment=record.id, group=lease.group, commitment=commitment)
            return self._say(lease.tenant, update)
        return self._say(lease.tenant, self._orders.replacement(lease, self.providers, record.template))

    def _deposit(self, view: Ledger, opened: Opened) -> bytes:
        sender = self.random.choice((opened.tenant, opened.tenant, *self.tenants))
        amount = MicroCredits(self.random.randint(900, 60_000))
        payer = self._payer(view, sender)
        return self._say(sender, Deposit(deployment=opened.id, amount=amount, payer=payer))

    def _payer(self, view: Ledger, sender: PublicKey) -> PublicKey | None:
        """Often somebody who lets `sender` spend; now and then somebody who does not."""
        state = view.state()
        granters = [one for one in self.tenants if grants.grant_of(state, one, sender) is not None]
        dice = self.random.random()
        if granters and dice < 0.5:
            return self.random.choice(granters)
        return self.random.choice(self.tenants) if dice > 0.97 else None

    def _grant(self, view: Ledger) -> list[bytes]:
        """One tenant lets another spend, for a while or until it thinks better of it."""
        granter, grantee = self.random.sample(self.tenants, 2)
        if self.random.random() < 0.2:
            return [self._say(granter, RevokeSpending(grantee=grantee))]
        grant = GrantSpending(
            grantee=grantee,
            limit=MicroCredits(self.random.randint(1, 300_000)),
            scope=self.random.choice(list(Scope)),
            expires_at=Millis(self._now + self.random.randint(1_000, 120_000)),
        )
        return [self._say(granter, grant)]

    def _close(self, opened: Opened, lease: Lease) -> bytes:
        match self.random.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                return self._say(opened.tenant, CloseLease(lease=lease.id, reason=reasons.CLOSED_BY_TENANT))
            case 5 | 6:
                return self._say(opened.tenant, CloseDeployment(deployment=opened.id, reason=reasons.NOT_SERVING))
            case 7:
                stranger = self.random.choice(self.tenants)
                return self._say(stranger, CloseLease(lease=lease.id, reason=reasons.FAULT))
            case _:
                return self._say(lease.provider, CloseLease(lease=lease.id, reason=reasons.UNSTABLE))

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
                return self._pretend(view, thief)

    def _pretend(self, view: Ledger, thief: PublicKey) -> list[bytes]:
        """To be the tenant and the provider of a lease that is not one's own."""
        leases = [lease for _, record in self._alive(view) for lease in record.leases]
        if not leases:
            return self._open(view)
        lease = view.state().require(key_lease(leases[-1]), Lease)
        forged = self._activation(replace(lease, tenant=thief))
        return [self._say(thief, forged), self._say(thief, Withdraw(lease=lease.id))]

    def _retire(self, view: Ledger) -> list[bytes]:
        """Providers that go come back: those that are missing register."""
        reclaim = self.random.random() < 0.2
        return [self._say(self.random.choice(self.providers), Retire(reclaim=reclaim))]

    def _both(self, view: Ledger) -> list[bytes]:
        """Two that each make sense and cannot both take effect: whichever comes second is refused in its block."""
        alive = self._alive(view)
        if alive and self.random.random() < 0.5:
            opened, record = self.random.choice(alive)
            lease = view.state().require(key_lease(self.random.choice(record.leases)), Lease)
            return [
                self._say(opened.tenant, CloseLease(lease=lease.id, reason=1)),
                self._say(lease.provider, CloseLease(lease=lease.id, reason=10_001)),
            ]
        (first,) = self._open(view)
        transaction = codec.decode(first, SignedTransaction).transaction
        return [first, self._say(transaction.sender, *transaction.messages)]


def _is_registered(view: Ledger, provider: PublicKey) -> bool:
    return view.state().get(key_provider(provider), Provider) is not None


def _withdrawal(lease: LeaseId) -> Withdraw:
    return Withdraw(lease=lease)
