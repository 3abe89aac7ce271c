"""What nodes left on their disks about the agreement, read without touching it.

A journal may be torn at its end, or damaged in the middle: what stands before is taken, and said. Validator sets
come from the nodes' own chain databases where there are any; all who know the set of a height must know the same
one, as they do up to the first height that was decided twice. Above it there are two chains, and nothing is
looked at any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.forensics import Finding, Transcript
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.agreement.journal import SUFFIX, Journal
from fondaco.node.chain import read_genesis
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Validator
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.light import Fork
from fondaco.protocol.scalars import ChainId, Height
from fondaco.protocol.signing import verify

FORK_SUFFIX = ".fork"


@dataclass(slots=True)
class Sources:
    """Everything at hand; made by `open_sources`."""

    journals: list[Journal] = field(default_factory=list)
    segments: list[tuple[Journal, Height]] = field(default_factory=list)
    """Files of single heights."""
    stores: list[ChainStore] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)
    genesis: Genesis | None = None
    warnings: list[str] = field(default_factory=list)

    def heights(self) -> list[Height]:
        """Those that any of them says something of."""
        found = {height for journal in self.journals for height in journal.heights()}
        found |= {height for _, height in self.segments}
        found |= {fork.first.signed.header.height for fork in self.forks}
        for one, other in itertools.combinations(self.stores, 2):
            found |= set(_first_difference(one, other))
        return sorted(found)

    def validators_at(self, chain: ChainId, height: Height) -> ValidatorSet | None:
        """The set of `height`, as the databases say, or genesis where there are none.

        Raises `Refused` `forensics.validators` if they say different things.
        """
        if not self.stores:
            assert self.genesis is not None, "checked before"
            return ValidatorSet.of((one.key, one.power) for one in self.genesis.validators)
        known = [found for store in self.stores if (found := _set_at(store, chain, height)) is not None]
        if len({one.hash for one in known}) > 1:
            raise Refused("forensics.validators", f"the nodes have different validators at height {height}")
        return known[0] if known else None

    def transcript(self, chain: ChainId, height: Height) -> Transcript | None:
        """All that is said of `height`; None where its validators are not known."""
        validators = self.validators_at(chain, height)
        if validators is None:
            self.warnings.append(f"height {height}: its validators are not known here")
            return None
        transcript = Transcript(chain, height, validators, SignatureCache(chain, verify).holds)
        for entry in self._entries(height):
            try:
                transcript.add_entry(entry)
            except Malformed as error:
                self.warnings.append(f"height {height}: an entry is passed over: {error}")
        for store in self.stores:
            certificate = store.certificate(height)
            if certificate is not None:
                transcript.add(certificate)
        for fork in self.forks:
            transcript.add_fork(fork)
        if transcript.passed_over:
            self.warnings.append(f"height {height}: {transcript.passed_over} votes do not count")
        return transcript

    def _entries(self, height: Height) -> Iterator[bytes]:
        whole = [journal for journal in self.journals if height in journal.heights()]
        for journal in [*whole, *(journal for journal, at in self.segments if at == height)]:
            try:
                yield from journal.entries(height)
            except Refused as error:
                self.warnings.append(f"height {height}: {error.message}; what stands before it is taken")


def open_sources(paths: Iterable[Path], genesis: Path | None, closing: ExitStack) -> Sources:
    """Open homes of nodes or of a whole test network, journals, and fork files.

    Raises `Refused` `forensics.path` for anything else, `forensics.chain` if they are of several chains, and
    `forensics.genesis` if none says of which.
    """
    sources = Sources(genesis=None if genesis is None else read_genesis(genesis))
    for path in paths:
        _open(path, sources, closing)
    if sources.genesis is None:
        raise Refused("forensics.genesis", "nothing here says of which chain this is", hint="give --genesis FILE")
    if not sources.stores:
        sources.warnings.append("no chain database: the validators are taken to be those of genesis")
    return sources


def investigate(sources: Sources) -> list[Finding]:
    """Every height at which somebody misbehaved, up to the first that was decided twice."""
    assert sources.genesis is not None, "checked at opening"
    chain = sources.genesis.chain
    findings: list[Finding] = []
    for height in sources.heights():
        transcript = sources.transcript(chain, height)
        if transcript is None:
            continue
        finding = transcript.examine()
        if finding.culprits or finding.disagreement:
            findings.append(finding)
        if finding.disagreement:
            sources.warnings.append(f"nothing above height {height} is looked at: there are two chains from there")
            break
    return findings


def _open(path: Path, sources: Sources, closing: ExitStack) -> None:
    if path.is_file() and path.suffix == FORK_SUFFIX:
        try:
            sources.forks.append(codec.decode(path.read_bytes(), Fork, limit=limits.FORK_BYTES))
        except Malformed as error:
            raise Refused("forensics.path", f"{path}: {error}") from None
    elif path.is_file() and path.suffix == SUFFIX and path.stem.isascii() and path.stem.isdigit():
        sources.segments.append((Journal(path.parent), Height(int(path.stem))))
    elif (path / "nodes").is_dir():
        for home in sorted((path / "nodes").iterdir()):
            _open(home, sources, closing)
    elif (path / "data").is_dir():
        _open_home(path, sources, closing)
    elif path.is_dir() and any(path.glob(f"*{SUFFIX}")):
        sources.journals.append(Journal(path))
    else:
        raise Refused("forensics.path", f"{path} is no node's home, no journal and no {FORK_SUFFIX} file")


def _open_home(home: Path, sources: Sources, closing: ExitStack) -> None:
    if (home / "genesis.json").exists():
        genesis = read_genesis(home / "genesis.json")
        if sources.genesis is not None and sources.genesis.chain != genesis.chain:
            raise Refused("forensics.chain", f"{home} is of {genesis.chain}, others of {sources.genesis.chain}")
        sources.genesis = genesis
    sources.journals.append(Journal(home / "data" / "journal"))
    if (home / "data" / "chain.db").exists():
        store = ChainStore.view(home / "data" / "chain.db")
        closing.callback(store.close)
        sources.stores.append(store)


def _set_at(store: ChainStore, chain: ChainId, height: Height) -> ValidatorSet | None:
    raw = store.validator_set(height)
    if raw is not None:
        return ValidatorSet(members=codec.decode(raw, tuple[Validator, ...]))
    ledger = Ledger(store, chain)
    return ledger.validators if height == ledger.head.height + 1 else None


def _first_difference(one: ChainStore, other: ChainStore) -> Iterator[Height]:
    """The lowest height at which two nodes hold different blocks; headers name those below, so it is bisected."""
    tops, bottoms = (one.head(), other.head()), (one.first_height(), other.first_height())
    if None in tops or None in bottoms:
        return
    low = max(int(height) for height in bottoms if height is not None)
    high = min(int(top.height) for top in tops if top is not None)

    def differ(height: int) -> bool:
        headers = [store.signed_header(Height(height)) for store in (one, other)]
        return len({None if signed is None else signed.header.hash() for signed in headers}) > 1

    if low > high or not differ(high):
        return
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if differ(middle) else (middle + 1, high)
    yield Height(high)
