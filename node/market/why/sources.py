"""Where the answers come from: the market database, the log, and the chain's own database, all only read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.market.dump import open_database
from fondaco.node.market.log import EventLog, Happened
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import CommitCertificate, Validator
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Height, PublicKey
from fondaco.protocol.signing import Signable, verify
from fondaco.protocol.transactions import SignedTransaction, decode_transaction

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Who signed a block, and whether that is good."""

    signers: tuple[tuple[PublicKey, bytes], ...]
    """Key and signature; empty where the validators of that height are no longer known here."""
    holds: bool | None
    """Whether every signature holds and more than two thirds of the power signed; None where that is not known."""


class Sources:
    """One node's databases; made by `open`."""

    def __init__(self, market: sqlite3.Connection, log: EventLog, store: ChainStore) -> None:
        self._market = market
        self.log = log
        self.store = store
        self.chain: ChainId = log.chain
        self._holds = SignatureCache(self.chain, verify).holds

    @classmethod
    @contextlib.contextmanager
    def open(cls, data: Path) -> Iterator[Sources]:
        """Those in a node's data folder, be it running or not.

        Raises `Refused` `market.none`, `market.unreadable` or `storage.*`.
        """
        with contextlib.ExitStack() as closing:
            market = open_database(data / "market" / "market.db")
            closing.callback(market.close)
            log = EventLog.view(data / "market" / "log.db")
            closing.callback(log.close)
            store = ChainStore.view(data / "chain.db")
            closing.callback(store.close)
            market.execute("BEGIN")  # everything is of one moment
            yield cls(market, log, store)

    def rows(self, question: str, *values: Any) -> list[Row]:
        found = self._market.execute(question, values)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def row(self, question: str, *values: Any) -> Row | None:
        found = self.rows(question, *values)
        return found[0] if found else None

    def block(self, height: int) -> Happened | None:
        """The block with its events, if the log has it."""
        return self.log.block(Height(height))

    def transaction(self, row: Row) -> SignedTransaction | None:
        """The whole of a transaction that has a row."""
        happened = self.block(row["height"])
        return None if happened is None else decode_transaction(happened.block.transactions[row["position"]])

    def signed(self, key: PublicKey, message: Signable, signature: Any) -> bool:
        """Whether a signature holds on this chain."""
        return self._holds(key, message, signature)

    def judge(self, certificate: CommitCertificate) -> Verdict:
        """Verify a certificate by the validators of its height."""
        raw = self.store.validator_set(certificate.height)
        if raw is None:
            return Verdict(signers=(), holds=None)
        validators = ValidatorSet(members=codec.decode(raw, tuple[Validator, ...]))
        signers = tuple(
            (member.public_key, bytes(signature))
            for member, signature in zip(validators.members, certificate.signatures, strict=True)
            if signature is not None
        )
        try:
            verify_commit(certificate, validators, self._holds)
        except PeerFault:
            return Verdict(signers=signers, holds=False)
        return Verdict(signers=signers, holds=True)
