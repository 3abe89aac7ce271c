"""Where a chain stands: the state it starts with, and the newest block it has."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.ledger import accounts, elections
from fondaco.consensus.ledger.genesis import STAKE_PER_POWER, Genesis
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.state import AUX, MemoryStore, State, Store, Writes
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.records import AUTHORITY, ISSUER, PARAMS, SUPPLY, TOTALS, Authority, Issuer, Supply, Totals
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
    """The store's contents before the first block. Raises `Refused` `genesis.malformed`.

    Where the chain begins with the records of another, they come from elsewhere: see `carrying.state_writes`.
    """
    genesis.check()
    assert genesis.state is None, "the records of this genesis lie in a file of their own"
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
            pool_stake=MicroStake(0),
            providers=0,
        ),
    )
    for account in genesis.accounts:
        accounts.change(state, account.owner, credits=account.credits, stake=account.stake)
    first = ValidatorSet.of((one.key, one.power) for one in genesis.validators)
    elections.first_sets(state, first.members, height=genesis.initial_height)
    if genesis.authority is not None:
        state.put(AUTHORITY, Authority(key=genesis.authority))
    if genesis.issuer is not None:
        state.put(ISSUER, Issuer(key=genesis.issuer))
    accounts.check_supply(state)
    state.seal()
    return {**state.writes, **genesis_head(genesis)}


def genesis_head(genesis: Genesis) -> Writes:
    """What the first block builds on."""
    head = Head(height=Height(genesis.initial_height - 1), hash=genesis.hash(), time=genesis.time)
    return {AUX + HEAD: codec.encode(head)}
