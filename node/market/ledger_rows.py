"""Rows of what the ledger did. Every event gets a row of its own; here is what some of them mean for a lease.

The match below names every kind of event, so that a new one cannot be forgotten: mypy shows what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fondaco.node.market.agreements import Agreement, Place, agreements
from fondaco.node.market.log import Happened
from fondaco.node.market.shown import address, amounts, gpus, named, named_within, shown, word
from fondaco.protocol.events import (
    AttestationLost,
    Attested,
    AuthorityEnded,
    Bonded,
    Burnt,
    Deposited,
    Event,
    GrantEnded,
    GrantSpent,
    HandoffLapsed,
    Jailed,
    LeaseActivated,
    LeaseClosed,
    LeaseOpened,
    LeaseReclaimed,
    LeaseReplaced,
    ManifestUpdated,
    Minted,
    Paid,
    ParameterChanged,
    PoolSpent,
    PowerChanged,
    ProposalEnded,
    ProposalMade,
    ProviderAlive,
    ProviderRegistered,
    ProviderRetired,
    ProviderRetiring,
    ProviderSlashed,
    RanDry,
    Refunded,
    Resumed,
    RoyaltyPaid,
    Slashed,
    SpendingGranted,
    TemplateRegistered,
    TransactionApplied,
    Transferred,
    Unbonded,
    UnbondingBegan,
    Unjailed,
    VoteCast,
)
from fondaco.protocol.messages import RegisterProvider
from fondaco.protocol.scalars import ChainId
from fondaco.protocol.transactions import SignedTransaction, decode_transaction, transaction_id

if TYPE_CHECKING:
    from fondaco.node.market.index import Rows

OF_BLOCK = (Jailed, PowerChanged)
"""Events that come by themselves after the transactions of a block; those before them come first."""
Elsewhere = (
    TransactionApplied
    | Transferred
    | Minted
    | Burnt
    | ProviderAlive
    | ProviderRetiring
    | Bonded
    | UnbondingBegan
    | Unbonded
    | Slashed
    | Jailed
    | Unjailed
    | PowerChanged
    | ParameterChanged
    | ProposalMade
    | VoteCast
    | ProposalEnded
    | PoolSpent
    | AuthorityEnded
    | TemplateRegistered
    | RoyaltyPaid
    | ManifestUpdated
    | SpendingGranted
    | GrantSpent
    | GrantEnded
)
"""Events that change no row but their own."""
RESOURCES = ("cpu_milli", "memory_bytes", "gpu_units", "storage_bytes")


@dataclass(slots=True)
class _At:
    """Where in the log an event stands."""

    height: int
    time: int
    position: int = -1
    transaction: SignedTransaction | None = None
    id: str | None = None
    agreed: dict[Place, Agreement] | None = None
    registrations: Iterator[RegisterProvider] | None = None

    @property
    def key(self) -> dict[str, Any]:
        return {"height": self.height, "position": self.position, "time_ms": self.time}


class LedgerRows:
    def __init__(self, rows: Rows, chain: ChainId) -> None:
        self._rows = rows
        self._chain = chain

    def take(self, happened: Happened) -> None:
        """One block and all its events."""
        header = happened.block.header
        signatures = happened.certificate.signatures
        self._rows.put(
            "blocks",
            height=header.height,
            time_ms=header.time,
            hash=header.hash().hex(),
            proposer=address(header.proposer),
            round=happened.certificate.round,
            signatures=sum(one is not None for one in signatures),
            validators=len(signatures),
            signed_power=happened.signed_power,
            total_power=happened.total_power,
            transactions=len(happened.block.transactions),
            events=len(happened.events),
            bytes=happened.size,
        )
        at = _At(height=header.height, time=header.time)
        included = iter(enumerate(happened.block.transactions))
        for at.position, event in enumerate(happened.events):
            if isinstance(event, TransactionApplied):
                self._transaction(at, event, *next(included))
            elif isinstance(event, OF_BLOCK):
                at.transaction = at.id = at.agreed = None
            self._event(at, event)
            self._project(at, event)

    def _transaction(self, at: _At, event: TransactionApplied, place: int, raw: bytes) -> None:
        signed = decode_transaction(raw)
        transaction = signed.transaction
        assert transaction_id(transaction) == event.id, "transactions are told of in their order"
        at.transaction, at.id = signed, event.id.hex()
        messages = () if event.code else transaction.messages
        if event.code:  # nothing else tells what it was about
            for identity in sorted({one for message in transaction.messages for one in named_within(message)}):
                self._mention(at, identity, "refused")
        at.agreed = {one.place: one for one in agreements(self._chain, transaction)} if messages else {}
        at.registrations = (one for one in messages if isinstance(one, RegisterProvider))
        self._rows.put(
            "transactions",
            id=at.id,
            height=at.height,
            position=place,
            time_ms=at.time,
            sender=address(transaction.sender),
            fee=event.fee,
            tip=transaction.tip,
            code=event.code,
            message=event.message,
            messages=",".join(word(type(one)) for one in transaction.messages),
            bytes=len(raw),
        )

    def _event(self, at: _At, event: Event) -> None:
        kind, data = word(type(event)), json.dumps(shown(event))
        self._rows.put("events", **at.key, kind=kind, transaction_id=at.id, data=data)
        for identity, role in named(event):
            self._mention(at, identity, role)

    def _mention(self, at: _At, identity: str, role: str) -> None:
        self._rows.put("mentions", id=identity, height=at.height, position=at.position, role=role)

    def _project(self, at: _At, event: Event) -> None:
        match event:
            case LeaseOpened():
                self._opened(at, event)
            case LeaseActivated(lease=lease):
                self._known(lease.hex())
                self._set("leases", lease.hex(), state="active", activated_at=at.time)
            case LeaseClosed():
                self._closed(at, event)
            case Paid(lease=lease, provider=provider, amount=amount):
                deployment = self._known(lease.hex())
                self._add("leases", lease.hex(), paid=amount)
                self._pay(at, "payment", deployment, lease.hex(), address(provider), amount, "paid")
            case Deposited(deployment=deployment, depositor=depositor, amount=amount):
                self._pay(at, "deposit", deployment.hex(), None, address(depositor), amount, "deposited")
            case Refunded(deployment=deployment, depositor=depositor, amount=amount):
                self._pay(at, "refund", deployment.hex(), None, address(depositor), amount, "refunded")
            case HandoffLapsed(lease=lease, fee=fee):
                self._pay(at, "handoff_fee", self._known(lease.hex()), lease.hex(), None, fee, "fees")
            case RanDry(deployment=deployment):
                self._deployment(deployment.hex())
                self._set("deployments", deployment.hex(), state="grace", dry_at=at.time)
            case Resumed(deployment=deployment):
                self._deployment(deployment.hex())
                self._set("deployments", deployment.hex(), state="open", dry_at=None)
            case ProviderRegistered():
                self._provider(at, event)
            case ProviderSlashed(provider=provider, bond=bond):
                self._rows.execute("UPDATE providers SET bond = ? WHERE address = ?", (bond, address(provider)))
            case ProviderRetired(provider=provider):
                self._rows.execute("UPDATE providers SET bond = 0 WHERE address = ?", (address(provider),))
            case LeaseReclaimed(lease=lease):
                self._known(lease.hex())
                self._set("leases", lease.hex(), state="reclaiming")
            case LeaseReplaced(lease=lease, by=by):
                self._set("leases", lease.hex(), replaced_by=by.hex())
            case Attested():
                self._attested(at, event)
            case AttestationLost():
                self._lost(event)
            case _:
                _shown_among_events(event)

    def _opened(self, at: _At, event: LeaseOpened) -> None:
        agreement = (at.agreed or {})[event.order, event.group]
        lease, deployment = event.lease.hex(), event.deployment.hex()
        tenant, provider = address(event.tenant), address(event.provider)
        opened = {"tenant": tenant, "opened_height": at.height, "opened_at": at.time}
        if self._deployment(deployment) and agreement.deposit is not None:
            self._set("deployments", deployment, **opened)
            payer = address(agreement.payer)
            self._pay(at, "deposit", deployment, None, payer, agreement.deposit, "deposited")
        models = gpus(agreement.bid.units)
        self._rows.put(
            "leases",
            id=lease,
            deployment=deployment,
            order_id=agreement.order_id.hex(),
            order_group=event.group,
            group_index=agreement.index,
            group_name=agreement.group.name,
            provider=provider,
            price_per_hour=event.price_per_hour,
            max_price_per_hour=agreement.group.max_price_per_hour,
            **amounts(agreement.bid.units),
            gpu_model=", ".join(models),
            state="awaiting",
            paid=0,
            transaction_id=at.id,
            **opened,
        )
        for model, units in models.items():
            self._rows.put("lease_gpus", lease=lease, model=model, units=units)
        self._utilise(at, lease, 1)

    def _closed(self, at: _At, event: LeaseClosed) -> None:
        lease = event.lease.hex()
        deployment = self._known(lease)
        closed = {"state": "closed", "closed_at": at.time}
        self._set("leases", lease, **closed, reason=event.reason, paid=event.paid)
        self._utilise(at, lease, -1)
        left = self._rows.one("SELECT 1 FROM leases WHERE deployment = ? AND state != 'closed'", deployment)
        if deployment is not None and left is None:
            self._set("deployments", deployment, **closed, dry_at=None)

    def _attested(self, at: _At, event: Attested) -> None:
        self._rows.execute(
            "REPLACE INTO attestations (provider, auditor, attributes, expires_at, evidence, height, time_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                address(event.provider),
                address(event.auditor),
                json.dumps({one.key: one.value for one in event.attributes}),
                event.expires_at,
                event.evidence.hex(),
                at.height,
                at.time,
            ),
        )

    def _lost(self, event: AttestationLost) -> None:
        """What is left of an attestation; with the last attribute it is gone."""
        whose = (address(event.provider), address(event.auditor))
        row = self._rows.one("SELECT attributes FROM attestations WHERE provider = ? AND auditor = ?", *whose)
        gone = {one.key for one in event.attributes}
        left = {} if row is None else {key: one for key, one in json.loads(row[0]).items() if key not in gone}
        if left:
            self._rows.execute(
                "UPDATE attestations SET attributes = ? WHERE provider = ? AND auditor = ?",
                (json.dumps(left), *whose),
            )
        else:
            self._rows.execute("DELETE FROM attestations WHERE provider = ? AND auditor = ?", whose)

    def _provider(self, at: _At, event: ProviderRegistered) -> None:
        assert at.registrations is not None, "a provider registers by a transaction"
        message = next(at.registrations)
        name = address(event.provider)
        self._rows.put(
            "providers",
            address=name,
            registered_at=at.time,
            updated_height=0,
            bond=0,
            attributes="",
            peer="",
            endpoints="",
        )
        self._rows.execute(
            "UPDATE providers SET updated_height = ?, bond = ?, attributes = ?, peer = ?, endpoints = ?"
            " WHERE address = ?",
            (
                at.height,
                event.bond,
                json.dumps({one.key: one.value for one in message.attributes}),
                message.peer,
                json.dumps(message.addresses),
                name,
            ),
        )

    def _pay(
        self,
        at: _At,
        kind: str,
        deployment: str | None,
        lease: str | None,
        account: str | None,
        amount: int,
        column: str,
    ) -> None:
        """A movement of money, counted in `column` of its deployment too."""
        who = {"deployment": deployment, "lease": lease, "account": account}
        self._rows.put("payments", **at.key, kind=kind, **who, amount=amount)
        if deployment is not None:
            self._deployment(deployment)
            self._add("deployments", deployment, **{column: amount})

    def _utilise(self, at: _At, lease: str, sign: int) -> None:
        """A new step for the provider of a lease, of which more than its end is known."""
        columns = ", ".join(RESOURCES)
        found = self._rows.one(f"SELECT provider, {columns} FROM leases WHERE id = ?", lease)
        assert found is not None, "the lease has a row by now"
        provider, *change = found
        if provider is None:
            return
        before = self._rows.one(
            f"SELECT leases, {columns} FROM utilisation WHERE provider = ?"
            " ORDER BY height DESC, position DESC LIMIT 1",
            provider,
        ) or (0, 0, 0, 0, 0)
        leases, *sums = (was + sign * amount for was, amount in zip(before, (1, *change), strict=True))
        self._rows.put(
            "utilisation", **at.key, provider=provider, leases=leases, **dict(zip(RESOURCES, sums, strict=True))
        )

    def _known(self, lease: str) -> str | None:
        """The deployment of a lease, if that is known; one opened before the log's start gets a row now."""
        self._rows.put("leases", id=lease, state="active", paid=0)
        found = self._rows.one("SELECT deployment FROM leases WHERE id = ?", lease)
        assert found is not None, "it was just put there"
        deployment: str | None = found[0]
        return deployment

    def _deployment(self, deployment: str) -> bool:
        """See that it has a row; whether it had none before."""
        return self._rows.put("deployments", id=deployment, state="open", deposited=0, paid=0, fees=0, refunded=0)

    def _set(self, table: str, identity: str, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self._rows.execute(f"UPDATE {table} SET {names} WHERE id = ?", (*values.values(), identity))

    def _add(self, table: str, identity: str, **values: int) -> None:
        names = ", ".join(f"{name} = {name} + ?" for name in values)
        self._rows.execute(f"UPDATE {table} SET {names} WHERE id = ?", (*values.values(), identity))


def _shown_among_events(event: Elsewhere) -> None:
    """Of these there is no more to tell than the event itself, which is found by whom it names."""
