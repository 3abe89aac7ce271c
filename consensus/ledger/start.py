"""Where a chain stands: the state it starts with, and the newest block it has."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.genesis import STAKE_PER_POWER, Genesis
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.state import AUX, MemoryStore, State, Store, Writes
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.records import PARAMS, SUPPLY, TOTALS, VALIDATORS, Supply, Totals, ValidatorSets
from fondaco.protocol.scalars import Hash, Height, MicroCredits, MicroStake, Millis

HEAD = b"head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest block, or genesis: what the next block builds on."""

    height: Height
    hash: Hash
    time: Millis


def read_head(store: Store, records: Records) -> Head:
    raw = store.get(AUX + HEAD)
    assert raw is not None, "the store holds no genesis"
    return records.decode(raw, Head)


def genesis_writes(genesis: Genesis) -> Writes:
    """The store's contents before the first block. Raises `Refused` `genesis.malformed`."""
    genesis.check()
    state = State(MemoryStore())
    bonded = sum(validator.power for validator in genesis.validators) * STAKE_PER_POWER
    credits = sum(account.credits for account in genesis.accounts)
    stake = sum(account.stake for account in genesis.accounts)
    state.put(PARAMS, genesis.params)
    state.put(SUPPLY, Supply(credits=MicroCredits(credits), stake=MicroStake(stake + bonded)))
    state.put(
        TOTALS,
        Totals(
            account_credits=MicroCredits(0),
            escrow_credits=MicroCredits(0),
            pool_credits=MicroCredits(0),
            account_stake=MicroStake(0),
            bonded_stake=MicroStake(bonded),
            providers=0,
        ),
    )
    for account in genesis.accounts:
        accounts.change(state, account.owner, credits=account.credits, stake=account.stake)
    first = ValidatorSet.of((one.key, one.power) for one in genesis.validators)
    state.put(VALIDATORS, ValidatorSets(last=(), next=first.members, after=first.advance(1).members))
    accounts.check_supply(state)
    state.seal()
    head = Head(height=Height(genesis.initial_height - 1), hash=genesis.hash(), time=genesis.time)
    state.put_aux(HEAD, codec.encode(head))
    return state.writes
