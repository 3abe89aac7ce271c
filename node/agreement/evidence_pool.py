"""Evidence on its way into a block: found here or told by peers, checked, kept on the disk, passed on, bounded.

    DATA/evidence/HASH.evidence    canonical bytes of one piece

What proves misbehaviour is worth keeping over a restart: nobody may ever see it again. The ledger has the last
word (`judge`): what it refuses goes, but for evidence of a height that this node does not know yet.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.files import write_atomically
from fondaco.node.news import News
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import SignedHeader
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.evidence import Evidence, LightClientAttack, decode_evidence, evidence_hash
from fondaco.protocol.light import Fork
from fondaco.protocol.scalars import Hash, Height

log = logging.getLogger("fondaco.evidence")
SUFFIX = ".evidence"
EARLY = "evidence.height"
"""The code of a height that is not known here: too old, or not decided yet."""
MADE_UP = frozenset(
    (
        "evidence.votes",
        "evidence.headers",
        "evidence.validators",
        "evidence.weak",
        "evidence.rounds",
        "signature.bad",
    )
)
"""Refusals that no state of an honest peer explains."""

Judge = Callable[[bytes], object]
"""Raises `Refused` unless the next block may hold this evidence, `Malformed` for what is none."""


class EvidencePool:
    """Pieces wait here in the order they came in; `judge` is the ledger's `check_evidence`."""

    def __init__(self, directory: Path, judge: Judge) -> None:
        self.news = News()
        """Rings when a piece came in."""
        self.spread: Callable[[bytes], object] = lambda _raw: None
        """Passes a piece on to every peer."""
        self._directory = directory
        self._judge = judge
        self._pending: dict[Hash, bytes] = {}
        self._early: dict[Hash, bytes] = {}
        """Found by this node about the height that it is at: the ledger takes it a block later."""
        self._done: OrderedDict[Hash, None] = OrderedDict()
        """Committed, or refused: not to be looked at again."""
        self._load()

    def __len__(self) -> int:
        """Pieces that the next block may hold."""
        return len(self._pending)

    def candidates(self) -> list[bytes]:
        """Those pieces, in the order they came in."""
        return list(self._pending.values())

    def report(self, evidence: Evidence) -> Hash:
        """Take in what this node found out, or was shown by a light client.

        Raises `Refused` with the reason if it proves nothing, `evidence.full` if there is no room.
        """
        raw = codec.encode(evidence)
        key = evidence_hash(raw)
        if key in self._early or key in self._pending or key in self._done:
            return key
        try:
            self._take(key, raw, evidence)
        except Refused as refusal:
            if refusal.code != EARLY:
                raise
            self._make_room()
            self._early[key] = raw
            self._write(key, raw)
        return key

    def add_from_peer(self, raw: bytes) -> bool:
        """Take in what a peer sent; whether it is news. Raises `PeerFault` for what no honest peer sends."""
        key = evidence_hash(raw)
        if key in self._pending or key in self._done:
            return False
        try:
            self._take(key, raw, decode_evidence(raw))
        except Refused as refusal:
            if refusal.code in MADE_UP:
                raise PeerFault(refusal.code, refusal.message) from None
            log.info("evidence %s is not taken: %s", key.hex()[:12], refusal)
            return False
        return True

    def after_commit(self, included: Iterable[bytes]) -> None:
        """Drop what is in a block by now, judge the rest anew, and say again what still waits."""
        for raw in included:
            self._drop(evidence_hash(raw))
        waiting = {**self._pending, **self._early}
        self._early.clear()
        for key, raw in waiting.items():
            self._judge_again(key, raw)
        for raw in self._pending.values():
            self.spread(raw)
        if self._pending:
            self.news.ring()

    def _take(self, key: Hash, raw: bytes, evidence: Evidence) -> None:
        if self._has_like(evidence):
            raise Refused("evidence.known", "another form of this evidence is waiting already")
        self._judge(raw)
        self._make_room()
        self._pending[key] = raw
        self._write(key, raw)
        log.warning("evidence %s: %s at height %d", key.hex()[:12], type(evidence).__name__, evidence.height)
        self.spread(raw)
        self.news.ring()

    def _has_like(self, evidence: Evidence) -> bool:
        """A light-client attack can be put in many forms: one for each header is enough."""
        if not isinstance(evidence, LightClientAttack):
            return False
        return any(
            isinstance(other, LightClientAttack) and other.conflicting.header == evidence.conflicting.header
            for other in map(decode_evidence, self._pending.values())
        )

    def _make_room(self) -> None:
        if len(self._pending) + len(self._early) >= limits.EVIDENCE_PENDING:
            raise Refused("evidence.full", "this node has no room for more evidence", hint="wait for a block")

    def _judge_again(self, key: Hash, raw: bytes) -> None:
        try:
            self._judge(raw)
        except Refused as refusal:
            if refusal.code == EARLY and key not in self._pending:
                self._early[key] = raw
                return
            log.info("evidence %s goes: %s", key.hex()[:12], refusal)
            self._drop(key)
        else:
            self._pending[key] = raw

    def _drop(self, key: Hash) -> None:
        self._pending.pop(key, None)
        self._path(key).unlink(missing_ok=True)
        self._done[key] = None
        while len(self._done) > limits.EVIDENCE_PENDING:
            self._done.popitem(last=False)

    def _load(self) -> None:
        """What was waiting before a restart; the ledger may have moved on."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.glob(f"*{SUFFIX}"))[: limits.EVIDENCE_PENDING]:
            raw = path.read_bytes()
            key = evidence_hash(raw)
            try:
                if self._path(key) != path:
                    raise Refused("evidence.name", "the file is not what it was written as")
                decode_evidence(raw)
            except (Refused, PeerFault) as error:
                log.warning("%s is passed over: %s", path, error)
                continue
            self._judge_again(key, raw)

    def _write(self, key: Hash, raw: bytes) -> None:
        write_atomically(self._path(key), raw)

    def _path(self, key: Hash) -> Path:
        return self._directory / f"{key.hex()}{SUFFIX}"


def judge_by(chain: Chain) -> Judge:
    """What the ledger would take into a block made now."""
    return lambda raw: chain.ledger.check_evidence(raw, now=clock.now())


def attack_of(fork: Fork, ours: SignedHeader | None) -> LightClientAttack:
    """The side of a fork that is not the chain's own, as evidence.

    Raises `Refused` `evidence.height` for a height that is not held here, `evidence.headers` if no side differs.
    """
    if ours is None:
        raise Refused("evidence.height", "this node does not hold the block at the fork's height")
    for block in (fork.first, fork.second):
        if block.signed.header != ours.header:
            return LightClientAttack(
                conflicting=block.signed,
                validators=block.validators,
                ours=ours,
                common_height=Height(fork.common_height),
            )
    raise Refused("evidence.headers", "both sides of this fork are the chain's own header")
