"""One try at bringing up what a tenant handed over, and those who watch it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import trio

from fondaco.protocol import limits
from fondaco.protocol.channel_calls import Progress, Step
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.limits import MIB
from fondaco.protocol.manifest import ManifestGroup
from fondaco.protocol.market import SignedReceipt
from fondaco.provider.runtimes.port import Report


@dataclass(slots=True)
class Attempt:
    """One try at bringing a lease up, and those who watch it."""

    group: ManifestGroup
    receipt: SignedReceipt
    sealed: bytes
    """As it was handed over."""
    progress: list[Progress] = field(default_factory=list)
    error: FondacoError | None = None
    done: bool = False
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def version(self) -> int:
        """Of the manifest."""
        return self.receipt.receipt.version

    def again(self) -> Attempt:
        """Another try at the same."""
        return Attempt(group=self.group, receipt=self.receipt, sealed=self.sealed)

    def say(self, step: Step, detail: str) -> None:
        if len(self.progress) < limits.PROGRESS_ITEMS or step is Step.RUNNING:
            self.progress.append(Progress(step=step.value, detail=detail))
        self._ring()

    def counting(self, image: str) -> Report:
        """Says how much of `image` has come, once for each tenth of it."""
        said = 0

        def report(done: int, total: int) -> None:
            nonlocal said
            tenths = 10 * done // total if total else 0
            if tenths > said:
                said = tenths
                self.say(Step.IMAGE, f"{image}: {done / MIB:.1f} of {total / MIB:.1f} MiB")

        return report

    def finish(self, error: FondacoError | None = None) -> None:
        if not self.done:
            self.error, self.done = error, True
            self._ring()

    def _ring(self) -> None:
        rung, self.changed = self.changed, trio.Event()
        rung.set()

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """Progress as it comes; only the last of it if all is done. Raises what made it fail."""
        told = max(0, len(self.progress) - 1) if self.done else 0
        while True:
            changed = self.changed
            while told < len(self.progress):
                told += 1
                yield self.progress[told - 1]
            if self.error is not None:
                raise self.error
            if self.done:
                return
            await changed.wait()
