"""Round trips from one place to providers, as a file that can be brought from there.

    {
      "vantage": "paris",
      "chain": "testnet-3f9a...",
      "providers": {
        "fond1...": {
          "peer": "12D3Koo...",
          "runs": [{"at": 1764271037000, "samples": [12, 13, null, 12]}]
        }
      }
    }

`at` is when a measurement began, in milliseconds since 1970; a sample is one round trip in whole milliseconds,
rounded up, or null for a probe that was lost. They are of one peer: a provider that is served by another peer now
was not measured. Percentiles are not in the file, since they follow. Nobody signs it: who takes a file believes
whoever made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fondaco.node.network.ping import PATIENCE_MS
from fondaco.node.tenant import bounds
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Millis, PublicKey
from fondaco.protocol.selection import Latency, Sample, summarise
from fondaco.protocol.spelling import nearest

HERE = "here"
"""What a place is called unless it is given a name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
PEER_CHARACTERS = 128
LATEST_MS = 2**53
"""What every reader of JSON takes for a whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement."""

    at: Millis
    """When it began."""
    samples: tuple[Sample, ...]

    @property
    def answered(self) -> bool:
        """Whether anything came back."""
        return any(one is not None for one in self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one provider, the oldest first."""

    peer: str
    runs: tuple[Run, ...]

    @property
    def at(self) -> Millis:
        """When it was measured last."""
        return self.runs[-1].at

    @property
    def samples(self) -> list[Sample]:
        return [sample for run in self.runs for sample in run.samples]

    def latency(self, vantage: str = "") -> Latency:
        return summarise(self.samples, vantage=vantage)

    def then(self, later: Measured) -> Measured:
        """Both, unless it is another peer now."""
        if later.peer != self.peer:
            return later
        runs = sorted({*self.runs, *later.runs}, key=lambda run: run.at)
        return Measured(peer=self.peer, runs=tuple(runs))

    def since(self, oldest: Millis) -> Measured | None:
        """The newest samples from then on, as many as are kept; None if there are none.

        A measurement to which nothing came back says that the provider was away, not how fast it is: it is kept
        until the next one.
        """
        kept: list[Run] = []
        room = bounds.LATENCY_SAMPLES
        for run in reversed(self.runs):
            if run.at < oldest or not room:
                break
            if kept and not run.answered:
                continue
            kept.insert(0, replace(run, samples=run.samples[-room:]))
            room -= len(kept[0].samples)
        return Measured(peer=self.peer, runs=tuple(kept)) if kept else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """A place, and what was measured from there."""

    name: str
    chain: ChainId
    providers: Mapping[PublicKey, Measured] = field(default_factory=dict)

    @property
    def at(self) -> Millis | None:
        """When something was measured last; None if nothing was."""
        return max((one.at for one in self.providers.values()), default=None)

    def of(self, provider: PublicKey, peer: str) -> Measured | None:
        """What is known of a provider that is served by this peer."""
        found = self.providers.get(provider)
        return found if found is not None and found.peer == peer else None

    def having(self, measured: Mapping[PublicKey, Measured]) -> Vantage:
        """With what was measured just now."""
        known = dict(self.providers)
        for provider, one in measured.items():
            known[provider] = known[provider].then(one) if provider in known else one
        return replace(self, providers=known)

    def kept(self, now: Millis) -> Vantage:
        """Without what is too old or too much."""
        oldest = Millis(now - bounds.LATENCY_KEPT_MS)
        young = {key: found for key, one in self.providers.items() if (found := one.since(oldest)) is not None}
        newest = sorted(young, key=lambda key: (-young[key].at, key))[: bounds.LATENCY_PROVIDERS]
        return replace(self, providers={key: young[key] for key in sorted(newest)})


def check_name(name: str) -> str:
    """The name. Raises `Refused` `latency.vantage` for what cannot be one."""
    if not _NAME.fullmatch(name):
        raise Refused("latency.vantage", f"{name!r} is no name of a place: up to 63 of A-Z a-z 0-9 . _ -")
    return name


def to_bytes(vantage: Vantage) -> bytes:
    """As a file, with a line for each provider."""
    lines = []
    for key, one in vantage.providers.items():
        runs = [{"at": run.at, "samples": list(run.samples)} for run in one.runs]
        told = json.dumps({"peer": one.peer, "runs": runs}, separators=(",", ":"))
        lines.append(f'"{addresses.encode(key)}": {told}')
    head = f'{{"vantage": {json.dumps(vantage.name)}, "chain": {json.dumps(vantage.chain)}, "providers": {{'
    return "\n".join([head, ",\n".join(lines), "}}", ""]).encode()


def read(path: Path, *, now: Millis) -> Vantage:
    """A file that was brought, without what in it is too old.

    Raises `Refused` `latency.file` with where in it something is wrong, or `latency.old` if nothing is left of it.
    """
    found = read_all(path, now=now)
    kept = found.kept(now)
    if found.at is not None and kept.at is None:
        days = (now - found.at) // bounds.DAY_MS
        most = bounds.LATENCY_KEPT_MS // bounds.DAY_MS
        raise Refused(
            "latency.old", f"{path} was measured {days} days ago, {most} are taken", hint="measure there again"
        )
    return kept


def read_all(path: Path, *, now: Millis) -> Vantage:
    """All there is in a file, however old. Raises `Refused` `latency.file`."""
    try:
        with path.open("rb") as file:
            data = file.read(bounds.LATENCY_FILE_BYTES + 1)
    except OSError as error:
        raise Refused("latency.file", f"{path}: {error.strerror}") from None
    try:
        if len(data) > bounds.LATENCY_FILE_BYTES:
            raise Refused("latency.file", f"longer than {bounds.LATENCY_FILE_BYTES} bytes")
        return _vantage(_document(data), now)
    except Refused as refusal:
        raise Refused("latency.file", f"{path}: {refusal.message}", hint=refusal.hint) from None


def check_chain(vantages: Sequence[Vantage], chain: ChainId) -> None:
    """Raises `Refused` `latency.chain` if one of them was measured on another chain."""
    for one in vantages:
        if one.chain != chain:
            raise Refused("latency.chain", f"vantage {one.name} is of chain {one.chain}, and this is {chain}")


def _document(data: bytes) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for name, _ in pairs if sum(each == name for each, _ in pairs) > 1)
            raise _wrong(twice, "it is there twice")
        return found

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=table)
    except json.JSONDecodeError as error:
        raise Refused("latency.file", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise Refused("latency.file", f"it is no JSON: {type(error).__name__}") from None


def _vantage(document: Any, now: Millis) -> Vantage:
    _only(document, ("vantage", "chain", "providers"), "")
    name, chain = document["vantage"], document["chain"]
    if type(name) is not str or not _NAME.fullmatch(name):
        raise _wrong("vantage", "the name of a place is wanted: up to 63 of A-Z a-z 0-9 . _ -")
    if type(chain) is not str or not chain:
        raise _wrong("chain", "the id of a chain is wanted")
    providers = document["providers"]
    if type(providers) is not dict or len(providers) > bounds.LATENCY_PROVIDERS:
        raise _wrong("providers", f"a table of at most {bounds.LATENCY_PROVIDERS} is wanted")
    found = {}
    for address, one in providers.items():
        where = f"providers.{address}"
        try:
            key = addresses.decode(address)
        except Refused as refusal:
            raise _wrong(where, refusal.message) from None
        if key in found:
            raise _wrong(where, "it is there twice")
        found[key] = _measured(one, where, now)
    return Vantage(name=name, chain=ChainId(chain), providers=found)


def _measured(document: Any, where: str, now: Millis) -> Measured:
    _only(document, ("peer", "runs"), where)
    peer, runs = document["peer"], document["runs"]
    if type(peer) is not str or not 0 < len(peer) <= PEER_CHARACTERS:
        raise _wrong(f"{where}.peer", "the id of a peer is wanted")
    if type(runs) is not list or not 0 < len(runs) <= bounds.LATENCY_SAMPLES:
        raise _wrong(f"{where}.runs", f"1 to {bounds.LATENCY_SAMPLES} measurements are wanted")
    found = [_run(one, f"{where}.runs[{number}]", now) for number, one in enumerate(runs)]
    return Measured(peer=peer, runs=tuple(sorted(found, key=lambda run: run.at)))


def _run(document: Any, where: str, now: Millis) -> Run:
    _only(document, ("at", "samples"), where)
    at, samples = document["at"], document["samples"]
    if type(at) is not int or not 0 <= at <= LATEST_MS:
        raise _wrong(f"{where}.at", "milliseconds since 1970 are wanted")
    if at > now + bounds.LATENCY_AHEAD_MS:
        raise _wrong(f"{where}.at", "it is in the future", hint="set the clocks of both machines")
    if type(samples) is not list or not 0 < len(samples) <= bounds.LATENCY_SAMPLES:
        raise _wrong(f"{where}.samples", f"1 to {bounds.LATENCY_SAMPLES} of them are wanted")
    for number, one in enumerate(samples):
        if one is not None and (type(one) is not int or not 0 < one <= PATIENCE_MS):
            asked = f"a whole number from 1 to {PATIENCE_MS}, or null for a probe that was lost, is wanted"
            raise _wrong(f"{where}.samples[{number}]", asked)
    return Run(at=Millis(at), samples=tuple(samples))


def _only(table: Any, names: Sequence[str], where: str) -> None:
    """All of these, and nothing else."""
    if type(table) is not dict:
        raise _wrong(where or "the file", "a table is wanted")
    for name in table:
        if name not in names:
            meant = nearest(str(name), names)
            hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(names)}"
            raise _wrong(f"{where}.{name}".strip("."), "it means nothing", hint=hint)
    for name in names:
        if name not in table:
            raise _wrong(f"{where}.{name}".strip("."), "it is missing")


def _wrong(where: str, what: str, *, hint: str = "") -> Refused:
    return Refused("latency.file", f"{where}: {what}", hint=hint)
