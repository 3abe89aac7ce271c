"""A disagreement: corrupted validators run twice, under one key, in two worlds that share nothing else.

Each world has its own honest validators, and all of the corrupted; there all is well, and what it decides is not
what the other decides. Only whoever sees the journals of both can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import Effect, Record
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation.faults import Faults
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.world import World
from fondaco.protocol.agreement import CommitCertificate
from fondaco.protocol.scalars import Power, PublicKey


class Absent(SimulatedNode):
    """Never heard of in this world."""

    def boot(self) -> None:
        """Stay away."""


class Recorder(SimulatedNode):
    """Keeps the journals of all its heights."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.journals: dict[int, list[bytes]] = {}

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Record):
            self.journals.setdefault(int(self.engine.height or 0), []).append(effect.entry)
        super()._do(effect)


class Half(World):
    def __init__(self, absent: set[int], **options: object) -> None:
        self._absent = absent
        super().__init__(**options)  # type: ignore[arg-type]

    def _make(self, index: int, key: PublicKey, validators: int) -> SimulatedNode:
        kind = Absent if index in self._absent else Recorder
        return kind(self, key, validates=True)

    def recorders(self) -> list[Recorder]:
        return [node for node in self.nodes if isinstance(node, Recorder)]


@dataclass
class Twins:
    """Both worlds, run until they disagree. The first validators are honest: every other one in each world."""

    seed: int
    honest: int
    corrupted: int
    faults: tuple[Faults, Faults]
    config: EngineConfig = field(default_factory=EngineConfig)
    for_ms: int = 5_000

    def __post_init__(self) -> None:
        powers = (1,) * (self.honest + self.corrupted)
        self.halves = [
            Half(
                {index for index in range(self.honest) if index % 2 != side},
                seed=self.seed,
                powers=powers,
                faults=self.faults[side],
                config=self.config,
                transaction_every_ms=(400, 700)[side],
            )
            for side in range(2)
        ]
        self.validators = ValidatorSet.of((node.key, Power(1)) for node in self.halves[0].nodes)
        """Of every height: nothing in these worlds changes them."""
        self.fork: int | None = None
        """The first height that was decided twice."""
        while self.fork is None:
            for half in self.halves:
                half.advance(self.for_ms)
            self.fork = self._fork()

    @property
    def guilty(self) -> set[PublicKey]:
        return {node.key for node in self.halves[0].nodes[self.honest :]}

    def witnesses(self) -> list[Recorder]:
        """The honest validators of both worlds."""
        return [node for half in self.halves for node in half.recorders() if node.key not in self.guilty]

    def certificates(self, height: int) -> list[CommitCertificate]:
        return [node.disk.blocks[height - 1][1] for node in self.witnesses() if node.height >= height]

    def _fork(self) -> int | None:
        for height in range(1, max(node.height for node in self.witnesses()) + 1):
            if len({certificate.value for certificate in self.certificates(height)}) > 1:
                return height
        return None
