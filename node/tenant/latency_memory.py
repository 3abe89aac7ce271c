"""What this home has measured: `HOME/latency/NAME.json` for each place that it measured from.

Each is a vantage file as any other. What is added is read, merged and written under a lock, for several commands
may measure at once. A file that is damaged is put aside, as `NAME.json.damaged`, when something is added: only
what was measured before is lost with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fondaco.node.files import alone, write_atomically
from fondaco.node.tenant import bounds, vantages
from fondaco.node.tenant.vantages import Measured, Vantage
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Millis, PublicKey

log = logging.getLogger("fondaco.tenant")
FOLDER = "latency"


@dataclass(frozen=True, slots=True)
class LatencyMemory:
    """Of one home and its chain."""

    home: Path
    chain: ChainId

    def path(self, name: str) -> Path:
        """Where a place's measurements are kept."""
        return self.home / FOLDER / f"{name}.json"

    def names(self) -> list[str]:
        """The places measured from, whether or not their files can be read."""
        return sorted(path.stem for path in (self.home / FOLDER).glob("*.json"))

    def load(self, name: str, *, now: Millis) -> Vantage:
        """What is kept; nothing where nothing was measured yet, or only on another chain.

        Raises `Refused` `latency.file` for a file that is damaged.
        """
        path = self.path(name)
        if not path.exists():
            return Vantage(name=name, chain=self.chain)
        try:
            found = vantages.read_all(path, now=now)
        except Refused as refusal:
            hint = f"measure anew: fondaco latency measure --vantage {name}"
            raise Refused(refusal.code, refusal.message, hint=hint) from None
        return found.kept(now) if found.chain == self.chain else Vantage(name=name, chain=self.chain)

    def add(self, name: str, measured: Mapping[PublicKey, Measured], *, now: Millis) -> Vantage:
        """Keep what was measured; what is kept then.

        Blocks for the disk, and for others that are at this. Raises `Refused` `latency.disk` or `latency.vantage`.
        """
        vantages.check_name(name)
        try:
            with alone(self.home / FOLDER / "lock"):
                if name not in (known := self.names()) and len(known) >= bounds.LATENCY_VANTAGES:
                    raise Refused(
                        "latency.vantage",
                        f"{len(known)} places are kept already",
                        hint=f"delete one of them from {self.home / FOLDER}",
                    )
                kept = self._load_or_put_aside(name, now).having(measured).kept(now)
                write_atomically(self.path(name), vantages.to_bytes(kept))
                return kept
        except OSError as error:
            raise Refused("latency.disk", f"{self.path(name)}: {error.strerror}") from None

    def _load_or_put_aside(self, name: str, now: Millis) -> Vantage:
        try:
            return self.load(name, now=now)
        except Refused as refusal:
            aside = self.path(name).with_suffix(".json.damaged")
            log.warning("what was measured before is put aside as %s: %s", aside, refusal)
            self.path(name).rename(aside)
            return Vantage(name=name, chain=self.chain)
