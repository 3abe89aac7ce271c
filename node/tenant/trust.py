"""What a light client remembers between runs: the newest header it verified, so that it goes on from there.

    HOME/trust/CHAIN.header      canonical bytes of a `LightBlock`
    HOME/evidence/HEIGHT-HASH.fork   both sides of a fork, as a `Fork`

A file that is there is believed as much as a genesis is: it was verified before it was written. It only ever moves
up its own chain. Where it says something else about a height than was just verified, nothing is overwritten.
"""

from __future__ import annotations

import logging
from pathlib import Path

from fondaco.consensus.light import TRUSTING_PERIOD_MS
from fondaco.node.files import write_atomically
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.light import Fork, LightBlock
from fondaco.protocol.scalars import Hash, Millis

log = logging.getLogger("fondaco.tenant")


class TrustStore:
    """The newest verified header of one chain, in a home."""

    def __init__(self, home: Path, genesis: Hash) -> None:
        self.path = home / "trust" / f"{genesis.hex()[:16]}.header"

    def load(self) -> LightBlock | None:
        """The header kept, or None. Raises `Refused` `trust.malformed`."""
        try:
            with self.path.open("rb") as file:
                raw = file.read(limits.TRUST_FILE_BYTES + 1)
            return codec.decode(raw, LightBlock, limit=limits.TRUST_FILE_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, Malformed) as error:
            raise Refused(
                "trust.malformed", f"{self.path}: {error}", hint="remove it to begin again from genesis"
            ) from None

    def load_fresh(self, now: Millis) -> LightBlock | None:
        """As `load`, but None for a header too old to prove anything: genesis, or the user, has to say."""
        block = self.load()
        if block is not None and block.signed.header.time + TRUSTING_PERIOD_MS <= now:
            log.info("%s: the header kept has expired", self.path)
            return None
        return block

    def save(self, block: LightBlock) -> None:
        """Keep `block`, unless a newer one is kept already.

        Raises `Refused` `trust.contradicts` if another header of its height is.
        """
        kept = self.load()
        if kept is not None:
            ours, theirs = block.signed.header, kept.signed.header
            if ours.height == theirs.height and ours.hash() != theirs.hash():
                raise Refused(
                    "trust.contradicts",
                    f"{self.path} holds another header of height {ours.height} than the network showed",
                    hint="one of them is of a fork: compare both with a source you trust",
                )
            if ours.height <= theirs.height:
                return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path, codec.encode(block))


def write_evidence(home: Path, fork: Fork) -> Path:
    """Write down both sides of a fork; the file."""
    header = fork.second.signed.header
    path = home / "evidence" / f"{header.height}-{header.hash().hex()[:16]}.fork"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, codec.encode(fork))
    return path
