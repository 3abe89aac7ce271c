"""A tenant's money: its account as proven, transactions with their outcome, and the faucet of test networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from fondaco.consensus.ledger.params import Params
from fondaco.node import clock
from fondaco.node.keys.sealing import random_salt
from fondaco.node.tenant.budget import Purse, outgoing
from fondaco.node.tenant.light import LightClient
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Faucet, Message
from fondaco.protocol.records import PARAMS, Account, key_account
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction, transaction_id

log = logging.getLogger("fondaco.tenant")
TX_LIFE_MS = 60_000
Keep = Callable[[bytes], None]
"""Puts a signed transaction where a crash leaves it: sent again it is the same one, and applied once."""
EMPTY = Account(credits=MicroCredits(0), stake=MicroStake(0))


class Wallet:
    """One key, and what can be done with it on the ledger."""

    def __init__(self, light: LightClient, signer: Signer, purse: Purse | None = None) -> None:
        """`purse`: counts what goes out, and holds it to the budgets there are."""
        self.light = light
        self.signer = signer
        self.purse = purse
        self._params: Params | None = None

    async def params(self) -> Params:
        """The chain's parameters, proven once."""
        if self._params is None:
            self._params = await self.light.record(PARAMS, Params)
            if self._params is None:
                raise Refused("chain.no_params", "this chain has no parameters")
        return self._params

    async def account(self, *, at_least: int = 0) -> Account:
        """What the key owns, proven."""
        found = await self.light.record(key_account(self.signer.public_key), Account, at_least=at_least)
        return found or EMPTY

    async def transact(self, *messages: Message, keep: Keep | None = None) -> int:
        """Have messages applied, all or none; their block's height. `keep` gets what is signed, before it goes.

        What became of them is proven by their block's header; the words of a refusal are its node's.
        Raises `Refused` with the ledger's reason, or `budget.exceeded` before it is signed; or `Unreachable`.
        """
        spent = outgoing(self.light.chain, messages)
        if self.purse is not None:
            self.purse.reserve(spent)
        try:
            return await self._transact(messages, keep)
        except Refused:
            self.returned(spent)
            raise

    def returned(self, amounts: Mapping[str, int]) -> None:
        """What of a budget came back, or was never spent: a deployment's id -> ucredit."""
        if self.purse is not None:
            self.purse.give_back(amounts)

    async def _transact(self, messages: tuple[Message, ...], keep: Keep | None) -> int:
        signed = sign_transaction(
            self.signer,
            self.light.chain,
            messages,
            expires_at=Millis(clock.now() + TX_LIFE_MS),
            salt=random_salt(),
        )
        raw = codec.encode(signed)
        if keep is not None:
            keep(raw)
        await self.light.submit_transaction(raw)
        outcome = await self.light.outcome(transaction_id(signed.transaction))
        if outcome.code:
            raise Refused(outcome.code, outcome.message)
        return outcome.height

    async def ensure(self, credits: int) -> Account:
        """Have at least so many ucredit, asking the faucet where the chain has one.

        Raises `Refused` `wallet.funds`.
        """
        account = await self.account()
        if account.credits >= credits:
            return account
        params = await self.params()
        gives = params.faucet_credits
        if account.credits + gives < credits:
            raise Refused(
                "wallet.funds",
                f"{credits} ucredit are needed, the account holds {account.credits}",
                hint="send credits to the address that `fondaco wallet` shows" if not gives else "order less",
            )
        return await self.ask_faucet()

    async def ask_faucet(self) -> Account:
        """Take what the chain's faucet gives; the account afterwards. Raises `Refused` `faucet.none`."""
        params = await self.params()
        if not params.faucet_credits:
            raise Refused("faucet.none", "this chain has no faucet")
        height = await self.transact(Faucet(credits=params.faucet_credits, stake=MicroStake(0)))
        return await self.account(at_least=height)
