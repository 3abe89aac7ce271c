"""Records that a chain cannot begin with are refused, each by what is wrong with it; so are forged sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support import heirs
from tests.support.heirs import committed
from tests.support.ledger import FREE, HOUR, World

from fondaco.consensus.ledger.genesis import Genesis, GenesisState
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.recount import count_again
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import (
    AUTHORITY,
    PARAMS,
    SUPPLY,
    TOTALS,
    VALIDATORS,
    Account,
    Deployment,
    DeploymentState,
    EscrowDeposit,
    Lease,
    LeaseState,
    Provider,
    Retirement,
    SignsOfLife,
    Stake,
    Supply,
    Totals,
    ValidatorSets,
    key_account,
    key_alive,
    key_deployment,
    key_due,
    key_lease,
    key_provider,
    key_retirement,
    key_stake,
)
from fondaco.protocol.scalars import (
    DeploymentId,
    Height,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    Power,
    PublicKey,
)

FOUR = {"ann": 10, "ben": 10, "cat": 10, "dan": 10}
PRICE = 3_600_000
Change = Callable[["Forger"], None]


class Forger(heirs.Forger):
    """A lease that goes on, and one that has ended; a validator with stake on its way out."""

    def __init__(self) -> None:
        world = World("alice", "paul", *FOUR, validators=FOUR, authority="alice", **FREE)
        self.alice, self.paul, self.ann = world.actors("alice", "paul", "ann")
        world.block(self.paul.registers())
        self.draft = self.alice.leases((self.paul, PRICE), deposit=900_000)
        self.ended = self.alice.leases((self.paul, PRICE), deposit=900_000)
        world.block(self.draft, self.ended, self.ann.bonds(7))
        world.block(
            self.paul.activates(self.draft.lease, self.ended.lease, receipt_of=self.alice), self.ann.unbonds(5)
        )
        world.block(self.alice.closes(self.ended.lease))
        super().__init__(world)


@pytest.fixture
def forger() -> Forger:
    return Forger()


def test_an_honest_export_is_counted(forger: Forger) -> None:
    counted = count_again(forger.genesis, forger.sorted())
    assert counted.supply == forger.world.ledger.state().require(SUPPLY, Supply)
    assert (counted.records["lease"], counted.records["stake"], counted.records["supply"]) == (2, 4, 1)
    assert forger.genesis.state is not None
    assert counted.root == forger.genesis.state.root


# Money


def richer(forger: Forger) -> None:
    account = forger.alice.account
    forger.bend(key_account(forger.alice.key), Account, credits=MicroCredits(account.credits + 1))


def richer_and_totalled(forger: Forger) -> None:
    richer(forger)
    totals = codec.decode(forger.records[TOTALS], Totals)
    forger.bend(TOTALS, Totals, account_credits=MicroCredits(totals.account_credits + 1))


def bonded_more(forger: Forger) -> None:
    forger.bend(key_provider(forger.paul.key), Provider, bond=MicroStake(1_000_001))


def deeper_escrow(forger: Forger) -> None:
    key = key_deployment(forger.draft.deployment)
    deposit = EscrowDeposit(depositor=forger.alice.key, amount=MicroCredits(10**9))
    forger.bend(key, Deployment, deposits=(deposit,))


def more_than_a_chain_may_hold(forger: Forger) -> None:
    extra = limits.SUPPLY
    totals = codec.decode(forger.records[TOTALS], Totals)
    forger.bend(TOTALS, Totals, pool_credits=MicroCredits(totals.pool_credits + extra))
    supply = codec.decode(forger.records[SUPPLY], Supply)
    forger.bend(SUPPLY, Supply, credits=MicroCredits(supply.credits + extra))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (richer, "account_credits"),
        (richer_and_totalled, "ucredit are held"),
        (bonded_more, "bonded_stake"),
        (deeper_escrow, "escrow_credits"),
        (more_than_a_chain_may_hold, "at most"),
    ],
)
def test_one_credit_more_is_found_though_the_document_commits_to_it(
    forger: Forger, change: Change, says: str
) -> None:
    change(forger)
    verdict = forger.verdict()
    assert verdict.code == "genesis.supply"
    assert says in verdict.message


def test_what_the_document_does_not_commit_to_is_refused(forger: Forger) -> None:
    richer(forger)
    for state, records in (
        (forger.genesis.state, forger.sorted()),
        (forger.genesis.state, forger.sorted()[1:]),
        (committed(forger.genesis, forger.sorted()).state, forger.sorted()[::-1]),
        (committed(forger.genesis, forger.sorted()).state, [forger.sorted()[0], *forger.sorted()]),
    ):
        with pytest.raises(Refused) as caught:
            count_again(replace(forger.genesis, state=state), records)
        assert caught.value.code == "genesis.state"
    assert isinstance(forger.genesis.state, GenesisState)


# Records


def deployment_record(**changes: Any) -> Change:
    return lambda forger: forger.bend(key_deployment(forger.draft.deployment), Deployment, **changes)


def lease_record(**changes: Any) -> Change:
    return lambda forger: forger.bend(key_lease(forger.draft.lease), Lease, **changes)


def stake_record(**changes: Any) -> Change:
    return lambda forger: forger.bend(key_stake(forger.ann.key), Stake, **changes)


def raw(key: bytes, value: bytes) -> Change:
    return lambda forger: forger.records.__setitem__(key, value)


def without(prefix: bytes) -> Change:
    def change(forger: Forger) -> None:
        del forger.records[next(key for key in forger.records if key.startswith(prefix))]

    return change


def ended_lease(**changes: Any) -> Change:
    return lambda forger: forger.bend(key_lease(forger.ended.lease), Lease, **changes)


def alive_record(**changes: Any) -> Change:
    return lambda forger: forger.bend(key_alive(forger.paul.key), SignsOfLife, **changes)


def retiring_later(forger: Forger) -> None:
    forger.records[key_retirement(forger.paul.key)] = codec.encode(Retirement(since=Millis(2**50)))


def lease_of_an_ended_deployment(forger: Forger) -> None:
    forger.bend(key_lease(forger.ended.lease), Lease, state=LeaseState.AWAITING)


def due_before_it_was_served(forger: Forger) -> None:
    key = key_deployment(forger.draft.deployment)
    before = codec.decode(forger.records[key], Deployment).due_at
    assert before is not None
    value = forger.records.pop(key_due(before, forger.draft.deployment))
    lease = forger.world.lease(forger.draft.lease)
    early = Millis(lease.accrued_to - 1)
    forger.records[key_due(early, forger.draft.deployment)] = value
    forger.bend(key, Deployment, due_at=early)


def unbonding_later(**changes: Any) -> Change:
    def change(forger: Forger) -> None:
        key = key_stake(forger.ann.key)
        (entry,) = codec.decode(forger.records[key], Stake).unbonding
        forger.bend(key, Stake, unbonding=(replace(entry, **changes),))

    return change


def validator_sets(**changes: Any) -> Change:
    return lambda forger: forger.bend(VALIDATORS, ValidatorSets, **changes)


def last_set(forger: Forger) -> None:
    sets = codec.decode(forger.records[VALIDATORS], ValidatorSets)
    forger.bend(VALIDATORS, ValidatorSets, last=sets.next)


def crowd(forger: Forger) -> None:
    deposits = tuple(
        EscrowDeposit(depositor=PublicKey(bytes([number]) * 32), amount=MicroCredits(1))
        for number in range(limits.DEPOSITORS + 1)
    )
    forger.bend(key_deployment(forger.draft.deployment), Deployment, deposits=deposits)


def twice_the_same_lease(forger: Forger) -> None:
    lease = forger.draft.lease
    forger.bend(key_deployment(forger.draft.deployment), Deployment, leases=(lease, lease))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (raw(b"account/" + bytes(31), codec.encode(Account(credits=MicroCredits(1), stake=MicroStake(0)))), "key"),
        (
            raw(b"account/" + bytes(32), codec.encode(Account(credits=MicroCredits(0), stake=MicroStake(0)))),
            "empty",
        ),
        (raw(b"account/" + bytes(32), b"nonsense"), "account/0000"),
        (raw(b"used-ids/" + bytes(8), b""), "cannot begin with"),
        (raw(b"unheard of", b""), "cannot begin with"),
        (raw(b"provider/" + bytes(32), b"\x90"), "provider/0000"),
        (raw(b"due/" + bytes(40), codec.encode(b"x" * 32)), "no entry of an index"),
        (raw(b"due/" + bytes(39), codec.encode(bytes(31))), "no entry of an index"),
        (raw(b"due/" + bytes(40), codec.encode(bytes(32))), "one is missing"),
        (raw(b"unbonding/" + bytes(40), codec.encode(b"x" * 32)), "no entry of an index"),
        (lambda forger: forger.bend(key_provider(forger.paul.key), Provider, key=PublicKey(bytes(32))), "another"),
        (alive_record(alive_at=Millis(2**50), covered_to=Millis(2**51)), "moments contradict"),
        (lease_record(reading=Millis(2**50)), "no such sign of life"),
        (stake_record(validator=PublicKey(bytes(32))), "another validator"),
        (stake_record(tombstoned=True), "one is missing"),
        (unbonding_later(height=Height(9_999)), "after genesis"),
        (unbonding_later(since=Millis(2**50)), "after genesis"),
        (without(b"unbonding/"), "when its stake is free"),
        (without(b"stake-rank/"), "one is missing"),
        (without(b"due/"), "one is missing"),
        (without(b"live/"), "one is missing"),
        (without(b"closed/"), "one is missing"),
        (raw(b"closed/" + bytes(40), codec.encode(bytes(32))), "one is missing"),
        (raw(b"live/" + bytes(65), codec.encode(b"x" * 32)), "no entry of an index"),
        (raw(b"live/" + bytes(64), codec.encode(bytes(31))), "no entry of an index"),
        (raw(b"live/" + bytes(65), codec.encode(bytes(32))), "one is missing"),
        (raw(b"retiring/" + bytes(32), codec.encode(Retirement(since=Millis(1)))), "no provider"),
        (retiring_later, "after genesis"),
        (ended_lease(closed_at=None), "no moment before genesis"),
        (ended_lease(closed_at=Millis(2**50)), "no moment before genesis"),
        (without(b"lease/"), "one is missing"),
        (without(b"validators-from/"), "no others"),
        (without(SUPPLY), "there is none"),
        (without(VALIDATORS), "there is none"),
        (deployment_record(id=DeploymentId(bytes(32))), "another deployment"),
        (deployment_record(state=DeploymentState.CLOSED), "contradict each other"),
        (deployment_record(state=DeploymentState.GRACE), "contradict each other"),
        (deployment_record(dry_at=Millis(1)), "contradict each other"),
        (crowd, "too many deposits"),
        (twice_the_same_lease, "twice"),
        (lease_record(id=LeaseId(bytes(32))), "another lease"),
        (lease_record(deployment=DeploymentId(bytes(32))), "has ended"),
        (lease_record(accrued_to=Millis(2**50)), "after genesis"),
        (lease_record(paid=MicroCredits(10**12)), "not what was served"),
        (lease_record(active_ms=Millis(10 * HOUR)), "not what was served"),
        (lease_of_an_ended_deployment, "has ended"),
        (due_before_it_was_served, "beyond the moment"),
        (validator_sets(after=()), "1..64"),
        (last_set, "no others"),
    ],
)
def test_a_record_that_cannot_be_is_refused(forger: Forger, change: Change, says: str) -> None:
    change(forger)
    verdict = forger.verdict()
    assert verdict.code == "genesis.record", verdict
    assert says in verdict.message


# The document beside them


def other_powers(genesis: Genesis) -> Genesis:
    first, *rest = genesis.validators
    return replace(genesis, validators=(replace(first, power=Power(first.power + 1)), *rest))


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (other_powers, "the validators"),
        (lambda genesis: replace(genesis, validators=genesis.validators[1:]), "the validators"),
        (lambda genesis: replace(genesis, params=Params()), "the parameters"),
        (lambda genesis: replace(genesis, authority=None), "the authority"),
    ],
)
def test_a_document_that_says_otherwise_than_its_records_is_refused(
    forger: Forger, bend: Callable[[Genesis], Genesis], says: str
) -> None:
    forger.genesis = bend(forger.genesis)
    verdict = forger.verdict()
    assert verdict.code == "genesis.differs"
    assert says in verdict.message


def test_an_authority_that_only_the_records_know_is_refused(forger: Forger) -> None:
    del forger.records[AUTHORITY]
    assert forger.verdict().code == "genesis.differs"
    assert PARAMS in forger.records


def test_a_height_that_is_not_the_one_of_the_records_is_refused(forger: Forger) -> None:
    forger.genesis = replace(forger.genesis, initial_height=Height(forger.genesis.initial_height + 1))
    assert forger.verdict().code == "genesis.record"
