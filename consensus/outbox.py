"""What one call of the engine asks of the host, and which timers run."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.effects import CancelTimer, Effect, SetTimer, Timer
from fondaco.consensus.rounds import FIRST_ROUND
from fondaco.protocol.scalars import Millis, Round


@dataclass(frozen=True, slots=True)
class Running:
    """A timer that was set and has not fired."""

    generation: int
    round: Round
    delay_ms: Millis


class Outbox:
    """Collects effects; while `muted` (in replay) it keeps book of the timers and says nothing."""

    def __init__(self) -> None:
        self.muted = False
        self.now = Millis(0)
        """The host's clock in this call; in replay, the moment of the entry."""
        self._effects: list[Effect] = []
        self._timers: dict[Timer, Running] = {}
        self._generation = 0

    def emit(self, effect: Effect) -> None:
        if not self.muted:
            self._effects.append(effect)

    def drain(self) -> tuple[Effect, ...]:
        effects = tuple(self._effects)
        self._effects.clear()
        return effects

    def set_timer(self, timer: Timer, delay_ms: int, round: Round = FIRST_ROUND) -> None:
        """Start `timer`, or start it again; an earlier setting of it is void from here on."""
        self._generation += 1
        delay = Millis(delay_ms)
        self._timers[timer] = Running(self._generation, round, delay)
        self.emit(SetTimer(timer, self._generation, delay))

    def runs(self, timer: Timer) -> bool:
        return timer in self._timers

    def fired(self, timer: Timer, generation: int) -> Running | None:
        """The setting of `timer` that has now fired; None for a stale firing."""
        running = self._timers.get(timer)
        if running is None or running.generation != generation:
            return None
        return self._timers.pop(timer)

    def forget(self, timer: Timer) -> None:
        """Replay: this one fired before the crash."""
        self._timers.pop(timer, None)

    def cancel(self, *timers: Timer) -> None:
        for timer in timers:
            if self._timers.pop(timer, None) is not None:
                self.emit(CancelTimer(timer))

    def restart_timers(self) -> None:
        """After a replay: the host knows of none of them."""
        for timer, running in list(self._timers.items()):
            self.set_timer(timer, running.delay_ms, running.round)
