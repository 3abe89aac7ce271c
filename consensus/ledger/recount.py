"""Judging the records a chain is to begin with: whatever the ledger relies on is counted again.

Genesis commits to the records by their root, so nobody can change them and keep the chain id; but whoever writes a
genesis could write nonsense. A ledger stops where its own records contradict each other (a sum that is wrong, an
index that names what is not there), so a chain that began with such records would stop at all its nodes at once,
at a moment that somebody may choose. Here it does not begin.

Records come one by one, in key order; of each, what another record must agree with is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from fondaco.consensus import merkle
from fondaco.consensus.ledger import alive, stakes
from fondaco.consensus.ledger.accounts import NOTHING
from fondaco.consensus.ledger.carrying import Record
from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.judging import ID_BYTES, NUMBER_BYTES, Pairs, entry, shown, wrong
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.recount_votes import KINDS as VOTES
from fondaco.consensus.ledger.recount_votes import VotesRecount
from fondaco.consensus.ledger.recount_words import KINDS as WORDS
from fondaco.consensus.ledger.recount_words import WordsRecount
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Validator
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.records import (
    ABSENCES,
    AUTHORITY,
    GOVERNANCE,
    ISSUER,
    PARAMS,
    SUPPLY,
    TOTALS,
    VALIDATORS,
    Absences,
    Account,
    Authority,
    Deployment,
    DeploymentState,
    Governance,
    Issuer,
    Lease,
    LeaseState,
    Provider,
    Retirement,
    SignsOfLife,
    Stake,
    Supply,
    Totals,
    ValidatorSets,
    ValidatorsFrom,
    key_account,
    key_alive,
    key_closed,
    key_deployment,
    key_due,
    key_lease,
    key_live,
    key_provider,
    key_stake,
    key_stake_rank,
    key_validators_from,
)
from fondaco.protocol.scalars import DeploymentId, Hash, Height, LeaseId, Millis, PublicKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the records of a genesis come to."""

    supply: Supply
    root: Hash
    records: Counter[str]
    """How many there are of each kind."""


def count_again(genesis: Genesis, records: Iterable[Record]) -> Counted:
    """Judge all that a chain is to begin with. Holds 64 bytes a record, and the keys of indexes.

    Raises `Refused`: `genesis.state` if these are not the records genesis commits to, `genesis.record` for one
    that cannot be or contradicts another, `genesis.supply` where money was made or lost, `genesis.differs` where
    the document says otherwise than its records.
    """
    assert genesis.state is not None, "this genesis lists its accounts"
    count = _Recount(genesis)
    root = merkle.root_over(count.taken(record) for record in records)
    found = sum(count.of.values())
    if found != genesis.state.records:
        raise Refused("genesis.state", f"{found} records, genesis says {genesis.state.records}")
    if root != genesis.state.root:
        raise Refused(
            "genesis.state",
            f"the records come to the root {root.hex()}, genesis says {genesis.state.root.hex()}",
        )
    return Counted(supply=count.close(), root=root, records=count.of)


class _Recount:
    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self.of: Counter[str] = Counter()
        self._last = b""
        self._pairs = Pairs()
        self._votes = VotesRecount(genesis.time)
        self._words = WordsRecount(self._pairs)
        self._sums: Counter[str] = Counter()
        self._single: dict[bytes, object] = {}
        self._due: dict[DeploymentId, Millis | None] = {}
        """Of deployments that go on."""
        self._shown: dict[bytes, Millis] = {}
        """What providers' clocks may come to by the signs of life there are."""
        self._ended: dict[DeploymentId, Millis] = {}
        """When deployments ended: with their last lease."""
        self._waiting: set[bytes] = set()
        """Validators with stake on its way out, until the index is seen to name them."""
        self._awaited: set[bytes] = set()
        """Validators whom that index names."""

    def taken(self, record: Record) -> Record:
        """The record, judged."""
        key, value = record
        if key <= self._last:
            raise Refused("genesis.state", f"the record {shown(key)} is out of order")
        self._last = key
        name, slash, rest = key.partition(b"/")
        self.of[name.decode("ascii", "replace")] += 1
        try:
            self._take(key, name + slash, rest, value)
        except PeerFault as fault:
            wrong(key, fault.message)
        return record

    def _take(self, key: bytes, kind: bytes, rest: bytes, value: bytes) -> None:
        match kind:
            case b"account/":
                self._account(key, rest, codec.decode(value, Account))
            case b"provider/":
                self._provider(key, codec.decode(value, Provider))
            case b"alive/":
                self._alive(key, codec.decode(value, SignsOfLife))
            case b"deployment/":
                self._deployment(key, codec.decode(value, Deployment))
            case b"lease/":
                self._lease(key, codec.decode(value, Lease))
            case b"stake/":
                self._stake(key, codec.decode(value, Stake))
            case b"retiring/":
                self._retirement(key, codec.decode(value, Retirement))
            case b"live/":
                self._live(key, rest, value)
            case b"due/" | b"stake-rank/" | b"closed/":
                self._pairs.entry(key, rest, value)
            case b"unbonding/":
                entry(key, rest, value)
                self._awaited.add(rest[NUMBER_BYTES:])
            case b"validators-from/":
                self._single[kind] = (key, codec.decode(value, ValidatorsFrom).members)
            case _ if kind in WORDS:
                self._words.take(key, kind, rest, value)
            case _ if kind in VOTES:
                self._votes.take(key, kind, value)
                if kind == b"proposal/":
                    self._sums["escrow_credits"] += self._votes.deposit_of(value)
            case _ if key in SINGLE:
                self._single[key] = codec.decode(value, SINGLE[key])
            case _:
                wrong(key, "a chain cannot begin with such a record")

    def _account(self, key: bytes, rest: bytes, account: Account) -> None:
        if key != key_account(PublicKey(rest)) or len(rest) != ID_BYTES:
            wrong(key, "this is no account's key")
        if account == NOTHING:
            wrong(key, "empty accounts are not kept")
        self._sums["account_credits"] += account.credits
        self._sums["account_stake"] += account.stake

    def _provider(self, key: bytes, provider: Provider) -> None:
        if key != key_provider(provider.key):
            wrong(key, "it is of another provider")
        self._words.provider(key, provider)
        self._pairs.match(key_alive(provider.key))
        self._sums["bonded_stake"] += provider.bond
        self._sums["providers"] += 1

    def _alive(self, key: bytes, signs: SignsOfLife) -> None:
        """Keys come in order, so these are known before any lease is."""
        self._pairs.match(key)
        if not signs.lapsed_at <= signs.resumed_at <= signs.alive_at <= min(signs.covered_to, self._genesis.time):
            wrong(key, "its moments contradict each other")
        self._shown[key] = alive.reading(signs, signs.covered_to)

    def _retirement(self, key: bytes, retirement: Retirement) -> None:
        """Of a provider whose signs of life were seen before, as keys come in order."""
        if (
            key_alive(PublicKey(key.partition(b"/")[2])) not in self._shown
            or retirement.since > self._genesis.time
        ):
            wrong(key, "it is of no provider, or began after genesis")

    def _live(self, key: bytes, rest: bytes, value: bytes) -> None:
        lease = rest[ID_BYTES + 1 :]
        if len(lease) != ID_BYTES or value != codec.encode(lease):
            wrong(key, "this is no entry of an index")
        self._pairs.match(key)

    def _stake(self, key: bytes, stake: Stake) -> None:
        if key != key_stake(stake.validator):
            wrong(key, "it is of another validator")
        if any(
            one.height >= self._genesis.initial_height or one.since > self._genesis.time for one in stake.unbonding
        ):
            wrong(key, "it names a moment or a height after genesis")
        self._votes.stake(stake)
        if stakes.may_decide(stake):
            self._pairs.match(key_stake_rank(stake.bonded, stake.validator))
        if stake.unbonding:
            self._waiting.add(stake.validator)
        self._sums["bonded_stake"] += stake.bonded + sum(one.amount for one in stake.unbonding)

    def _deployment(self, key: bytes, deployment: Deployment) -> None:
        if key != key_deployment(deployment.id):
            wrong(key, "it is of another deployment")
        closed, dry = deployment.state == DeploymentState.CLOSED, deployment.state == DeploymentState.GRACE
        if dry != (deployment.dry_at is not None) or (closed and (deployment.deposits or deployment.due_at)):
            wrong(key, "its state and its escrow contradict each other")
        if len(deployment.deposits) > limits.DEPOSITORS or not all(one.amount for one in deployment.deposits):
            wrong(key, "its escrow holds too many deposits, or empty ones")
        self._sums["escrow_credits"] += sum(one.amount for one in deployment.deposits)
        self._votes.deployment(deployment)
        if len(set(deployment.leases)) != len(deployment.leases):
            wrong(key, "it names a lease twice")
        for lease in deployment.leases:
            self._pairs.match(key_lease(lease) + deployment.id)
        if deployment.due_at is not None:
            self._pairs.match(key_due(deployment.due_at, deployment.id))
        if not closed:
            self._due[deployment.id] = deployment.due_at

    def _lease(self, key: bytes, lease: Lease) -> None:
        if key != key_lease(lease.id):
            wrong(key, "it is of another lease")
        if lease.state == LeaseState.CLOSED and not self._pairs.is_named(key + lease.deployment):
            self._pairs.match(key_closed(lease.closed_at or Millis(0), lease.id))  # another one took its place
        else:
            self._pairs.match(key + lease.deployment)
            self._ends(lease)
        if max(lease.opened_at, lease.accrued_to) > self._genesis.time:
            wrong(key, "it was served after genesis")
        earned = lease.price_per_hour * lease.active_ms // HOUR_MS
        due_at = self._due.get(lease.deployment)
        active = lease.state == LeaseState.ACTIVE
        if lease.paid + lease.debt > earned or (active and lease.paid + lease.debt < earned):
            wrong(key, "what it has paid is not what was served")
        if active and due_at is not None and lease.accrued_to > due_at:
            wrong(key, "it was served beyond the moment at which its deployment is due")
        if lease.state == LeaseState.CLOSED:
            self._closed(key, lease)
            return
        self._pairs.match(key_live(lease.provider, LeaseId(lease.id), announced=lease.reclamation is not None))
        if lease.deployment not in self._due:
            wrong(key, "its deployment has ended")
        if lease.reading > self._shown.get(key_alive(lease.provider), -1):
            wrong(key, "its provider gave no such sign of life")

    def _closed(self, key: bytes, lease: Lease) -> None:
        if lease.closed_at is None or lease.closed_at > self._genesis.time:
            wrong(key, "it was closed at no moment before genesis")

    def _ends(self, lease: Lease) -> None:
        """A deployment ends with its last lease."""
        if lease.deployment not in self._due:
            before = self._ended.get(lease.deployment, Millis(0))
            self._ended[lease.deployment] = max(lease.closed_at or Millis(0), before)

    def close(self) -> Supply:
        """Hold what was counted to what the records and the document say of it."""
        for deployment, at in self._ended.items():
            self._pairs.match(key_closed(at, deployment))
        self._pairs.close()
        if self._waiting - self._awaited:
            wrong(key_stake(PublicKey(min(self._waiting - self._awaited))), "no index says when its stake is free")
        self._words.close()
        self._votes.close(self._get(GOVERNANCE, Governance))
        self._check_document()
        self._check_validators()
        return self._check_money()

    def _check_document(self) -> None:
        authority, issuer = self._single.get(AUTHORITY), self._single.get(ISSUER)
        for what, recorded, said in (
            ("the parameters", self._get(PARAMS, Params), self._genesis.params),
            ("the authority", _key_of(authority), self._genesis.authority),
            ("the issuer", _key_of(issuer), self._genesis.issuer),
        ):
            if recorded != said:
                raise Refused("genesis.differs", f"{what} in the document are not those of the records")

    def _check_validators(self) -> None:
        sets = self._get(VALIDATORS, ValidatorSets)
        first, _ = (_set(VALIDATORS, members) for members in (sets.next, sets.after))
        said = ValidatorSet.of((one.key, one.power) for one in self._genesis.validators)
        if first.hash != said.hash:
            raise Refused("genesis.differs", "the validators in the document are not those of the records")
        since = key_validators_from(Height(self._genesis.initial_height - 1))
        if sets.last or self._single.get(b"validators-from/") != (since, sets.next):
            wrong(since, "the validators of the first block are those from the height below on, and no others")

    def _check_money(self) -> Supply:
        supply, totals, sums = self._get(SUPPLY, Supply), self._get(TOTALS, Totals), self._sums
        for name in ("account_credits", "escrow_credits", "account_stake", "bonded_stake", "providers"):
            if getattr(totals, name) != sums[name]:
                raise Refused(
                    "genesis.supply",
                    f"{name}: the records come to {sums[name]}, the totals say {getattr(totals, name)}",
                )
        credits = totals.account_credits + totals.escrow_credits + totals.pool_credits
        stake = totals.account_stake + totals.bonded_stake + totals.pool_stake
        for unit, held, made in (("ucredit", credits, supply.credits), ("ustake", stake, supply.stake)):
            if held != made:
                raise Refused("genesis.supply", f"{held} {unit} are held, the supply is {made}")
            if made > limits.SUPPLY:
                raise Refused("genesis.supply", f"{made} {unit} in all, at most {limits.SUPPLY} allowed")
        return supply

    def _get(self, key: bytes, kind: type[T]) -> T:
        found = self._single.get(key)
        if not isinstance(found, kind):
            wrong(key, "there is none")
        return found


SINGLE: dict[bytes, type] = {
    SUPPLY: Supply,
    TOTALS: Totals,
    PARAMS: Params,
    VALIDATORS: ValidatorSets,
    ABSENCES: Absences,
    AUTHORITY: Authority,
    ISSUER: Issuer,
    GOVERNANCE: Governance,
}


def _key_of(named: object) -> PublicKey | None:
    return named.key if isinstance(named, Authority | Issuer) else None


def _set(key: bytes, members: tuple[Validator, ...]) -> ValidatorSet:
    try:
        return ValidatorSet(members=members)
    except PeerFault as fault:
        wrong(key, fault.message)
