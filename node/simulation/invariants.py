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
        self._locks: dict[tuple[PublicKey, Height], Vote] = {}

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
        if certificate in self._sound:
            return
        statement = certificate.vote()
        signed = sum(
            power
            for (key, power), signature in zip(self._members, certificate.signatures, strict=True)
            if signature is not None and signature == self._scheme.sign(self._chain, key, statement)
        )
        total = sum(power for _, power in self._members)
        if signed * 3 <= total * 2:
            raise Violation(f"height {certificate.height}: a certificate with {signed} of {total} power")
        self._sound.add(certificate)

    def voted(self, key: PublicKey, vote: Vote) -> None:
        """An honest validator has one word for each kind, height and round, crash or no crash.

        And it does not suffer from amnesia: having precommitted a value it prevotes another only on a polka
        at or after that round.
        """
        place = (key, vote.height, vote.round, int(vote.kind))
        if self._signed.setdefault(place, vote) != vote:
            raise Violation(f"{key.hex()[:8]} signed twice at height {vote.height}, round {vote.round}")
        if vote.value is None:
            return
        if vote.kind is VoteKind.PRECOMMIT:
            self._locks[(key, vote.height)] = vote
            return
        lock = self._locks.get((key, vote.height))
        if lock is None or lock.round >= vote.round or lock.value == vote.value:
            return
        if vote.valid_round is None or vote.valid_round < lock.round:
            raise Violation(
                f"{key.hex()[:8]} forgot at height {vote.height}, round {vote.round}, "
                f"what it precommitted in round {lock.round}"
            )
