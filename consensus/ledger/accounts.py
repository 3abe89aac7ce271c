"""Balances, and the running totals that show no money is made or lost."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import PARAMS, SUPPLY, TOTALS, Account, Supply, Totals, key_account
from fondaco.protocol.scalars import MicroCredits, MicroStake, PublicKey

_TOTALS = tuple(field.name for field in fields(Totals))
_totals = attrgetter(*_TOTALS)
NOTHING = Account(credits=MicroCredits(0), stake=MicroStake(0))


def params_of(state: State) -> Params:
    return state.require(PARAMS, Params)


def account_of(state: State, owner: PublicKey) -> Account:
    """An account nobody has paid into is an empty account."""
    return state.get(key_account(owner), Account) or NOTHING


def change(state: State, owner: PublicKey, *, credits: int = 0, stake: int = 0, to_pool: int = 0) -> None:
    """Add to (or take from) a balance and the totals over accounts, and to the community pool.

    Raises `Refused` `funds.credits` or `funds.stake` where the balance does not cover it.
    """
    _add(state, owner, credits, stake)
    shift(state, account_credits=credits, account_stake=stake, pool_credits=to_pool)


def move(state: State, owner: PublicKey, to: PublicKey, credits: int) -> None:
    """From one account to another, which leaves the totals what they are. Raises `Refused` `funds.credits`."""
    _add(state, owner, -credits, 0)
    _add(state, to, credits, 0)


def _add(state: State, owner: PublicKey, credits: int, stake: int) -> None:
    account = account_of(state, owner)
    if account.credits + credits < 0:
        raise short_of_credits(account.credits, -credits)
    if account.stake + stake < 0:
        raise Refused("funds.stake", f"the account holds {account.stake} ustake, {-stake} are needed")
    after = Account(credits=MicroCredits(account.credits + credits), stake=MicroStake(account.stake + stake))
    state.put(key_account(owner), None if after == NOTHING else after)


def short_of_credits(have: int, needed: int) -> Refused:
    """A balance does not cover what is asked of it."""
    return Refused("funds.credits", f"the account holds {have} ucredit, {needed} are needed")


def shift(state: State, **deltas: int) -> None:
    """Move the running totals, field by field."""
    before = state.require(TOTALS, Totals)
    # As `dataclasses.replace`, at a third of its price: this is what ledgers do most.
    totals = dict(zip(_TOTALS, _totals(before), strict=True))
    for name, delta in deltas.items():
        totals[name] += delta
    state.put(TOTALS, Totals(**totals))


def mint(state: State, owner: PublicKey, *, credits: MicroCredits, stake: MicroStake) -> None:
    """Make new money; the supply grows with it.

    Raises `Refused` `supply.limit` where more would exist than a chain may hold.
    """
    before = state.require(SUPPLY, Supply)
    supply = Supply(credits=MicroCredits(before.credits + credits), stake=MicroStake(before.stake + stake))
    if max(supply.credits, supply.stake) > limits.SUPPLY:
        raise Refused("supply.limit", f"a chain holds at most {limits.SUPPLY} ucredit and as many ustake")
    state.put(SUPPLY, supply)
    change(state, owner, credits=credits, stake=stake)


def check_supply(state: State) -> None:
    """The invariant after every block: what there is equals what was made."""
    supply, totals = state.require(SUPPLY, Supply), state.require(TOTALS, Totals)
    held = totals.account_credits + totals.escrow_credits + totals.pool_credits
    assert held == supply.credits, f"{held} ucredit are held, {supply.credits} were made"
    stake = totals.account_stake + totals.bonded_stake + totals.pool_stake
    assert stake == supply.stake, f"{stake} ustake are held, {supply.stake} were made"
