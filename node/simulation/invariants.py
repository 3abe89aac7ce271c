"""What must hold whatever happens, checked independently of the code under test.

The recount of a certificate here shares nothing with `consensus.certificates` or the vote keeper but the
message format, so that a wrong threshold there is seen here.
"""

from __future__ import annotations

from collections.abc import Mapping

from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation.books import Books
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.violation import Violation
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate, Vote, VoteKind
from fondaco.protocol.scalars import ChainId, Hash, Height, PublicKey
from fondaco.protocol.signing import sha256


class Invariants:
    def __init__(
        self, chain: ChainId, validators: ValidatorSet, scheme: Scheme, genesis: Mapping[bytes, bytes]
    ) -> None:
        self._chain = chain
        self._scheme = scheme
        self._members = [(member.public_key, member.power) for member in validators.members]
        self.books = Books.opened(genesis)
        self._proposed: dict[Hash, Block] = {}
        self._written: dict[Height, Hash] = {}
        self._included: dict[bytes, Height] = {}
        self._decided: dict[Height, Hash] = {}
        self._times: dict[Height, int] = {}
        self._sound: set[CommitCertificate] = set()
        self._signed: dict[tuple[PublicKey, int, int, int], Vote] = {}
        self._locks: dict[tuple[PublicKey, Height], list[Vote]] = {}
        self.liars: frozenset[PublicKey] = frozenset()
        """Byzantine validators, who may have signed anything."""

    @property
    def heights(self) -> int:
        return len(self._decided)

    def committed(self, block: Block, certificate: CommitCertificate) -> None:
        """Agreement; certificate soundness; the chain hangs together."""
        header, value = block.header, block.header.hash()
        height = header.height
        first = self._decided.setdefault(height, value)
        if first != value:
            raise Violation(f"height {height}: {first.hex()[:8]} and {value.hex()[:8]} are both committed")
        if certificate.height != height or certificate.value != value:
            raise Violation(f"height {height}: the certificate is about something else")
        self.certified(certificate)
        below = self._decided.get(Height(height - 1))
        if below is not None and header.previous != below:
            raise Violation(f"height {height} does not build on height {height - 1}")
        self._times[height] = header.time
        if self._times.get(Height(height - 1), -1) >= header.time:
            raise Violation(f"height {height}: block time does not increase")

    def proposed(self, block: Block) -> None:
        """An honest node made this block."""
        self._proposed[block.header.hash()] = block

    def judged(self, block: Block, *, valid: bool) -> None:
        """What one honest ledger makes another allows: they execute alike."""
        if not valid and self._proposed.get(block.header.hash()) == block:
            raise Violation(f"height {block.header.height}: an honest block was judged invalid")

    def executed(self, execution: Execution, root: Hash) -> None:
        """Every store is written the same, to the byte, and its root is the header's; the money adds up."""
        header = execution.block.header
        if root != header.state_root:
            raise Violation(f"height {header.height}: a store has another root than the header")
        written = sha256(codec.pack(sorted(execution.writes.items())))
        first = header.height not in self._written
        if self._written.setdefault(header.height, written) != written:
            raise Violation(f"height {header.height}: two ledgers wrote different things for the same block")
        if first:
            for transaction in execution.block.transactions:
                if self._included.setdefault(transaction, header.height) != header.height:
                    raise Violation(f"height {header.height}: a transaction was included twice")
            self.books.post(execution.writes, execution.events, now=header.time)

    def certified(self, certificate: CommitCertificate) -> None:
        """More than two thirds really signed what an honest node passes on as final."""
        if not self.is_sound(certificate):
            raise Violation(f"height {certificate.height}: a certificate that too few have signed")

    def is_sound(self, certificate: CommitCertificate) -> bool:
        """Whether more than two thirds signed it, counted here, and every signature in it holds."""
        if certificate in self._sound:
            return True
        if len(certificate.signatures) != len(self._members):
            return False
        statement = certificate.vote()
        signed = 0
        for (key, power), signature in zip(self._members, certificate.signatures, strict=True):
            if signature is None:
                continue
            if signature != self._scheme.sign(self._chain, key, statement):
                return False
            signed += power
        if signed * 3 <= 2 * sum(power for _, power in self._members):
            return False
        self._sound.add(certificate)
        return True

    def voted(self, key: PublicKey, vote: Vote) -> None:
        """An honest validator has one word for each kind, height and round, crash or no crash.

        It is in a round only for a reason. And it does not suffer from amnesia: whatever it precommitted
        before, it prevotes another value only on a polka at or after that round, and says so.
        """
        self._check_round(key, vote)
        place = (key, vote.height, vote.round, int(vote.kind))
        if self._signed.setdefault(place, vote) != vote:
            raise Violation(f"{key.hex()[:8]} signed twice at height {vote.height}, round {vote.round}")
        if vote.value is None:
            return
        if vote.kind is VoteKind.PRECOMMIT:
            self._locks.setdefault((key, vote.height), []).append(vote)
            return
        for lock in self._locks.get((key, vote.height), ()):
            if lock.round >= vote.round or lock.value == vote.value:
                continue
            if vote.valid_round is None or vote.valid_round < lock.round:
                raise Violation(
                    f"{key.hex()[:8]} forgot at height {vote.height}, round {vote.round}, "
                    f"what it precommitted in round {lock.round}"
                )

    def _check_round(self, key: PublicKey, vote: Vote) -> None:
        """The first honest validator in a round saw more than two thirds precommit in the one before.

        All others followed that one, so it may be asked of everybody; whatever liars could have signed counts.
        """
        if vote.round == 0:
            return
        before, kind = vote.round - 1, int(VoteKind.PRECOMMIT)
        said = sum(
            power
            for who, power in self._members
            if who in self.liars or (who, vote.height, before, kind) in self._signed
        )
        total = sum(power for _, power in self._members)
        if said * 3 <= total * 2:
            raise Violation(
                f"{key.hex()[:8]} is in round {vote.round} of height {vote.height}, "
                f"though {said} of {total} power precommitted in the round before"
            )
