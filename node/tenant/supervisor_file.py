"""What a supervisor keeps on disk: `supervisor.json` in the folder of its service."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fondaco.node.files import write_atomically
from fondaco.node.tenant.supervision import NEVER, Condition, Memory, Spent
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey

NAME = "supervisor.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    spent: Spent = Spent()  # noqa: RUF009 - frozen
    replicas: dict[str, Memory] = field(default_factory=dict)
    """By name."""

    def worth_saving(self, before: Remembered) -> bool:
        """Whether anything but counted looks has changed."""
        return self._kept() != before._kept()

    def _kept(self) -> Remembered:
        return replace(
            self,
            replicas={name: replace(one, misses=0, looked_at=NEVER) for name, one in self.replicas.items()},
        )


def save(folder: Path, remembered: Remembered) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a service that was closed meanwhile is forgotten
    document = {
        "spent": {"day": remembered.spent.day, "ucredit": remembered.spent.amount},
        "replicas": {name: _to_json(memory) for name, memory in remembered.replicas.items()},
    }
    write_atomically(folder / NAME, json.dumps(document, indent=2).encode())


def load(folder: Path) -> Remembered:
    """Nothing where there is no file. Raises `Refused` `supervise.malformed`."""
    path = folder / NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        spent = Spent(day=int(document["spent"]["day"]), amount=int(document["spent"]["ucredit"]))
        found = {str(name): _from_json(one) for name, one in document["replicas"].items()}
        return Remembered(spent=spent, replicas=found)
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "move the file away: today's budget then counts anew"
        raise Refused("supervise.malformed", f"{path}: {error}", hint=hint) from None


def _to_json(memory: Memory) -> dict[str, Any]:
    return {
        "lease": None if memory.lease is None else memory.lease.hex(),
        "condition": memory.condition.value,
        "since": memory.since,
        "looked_at": memory.looked_at,
        "down_since": memory.down_since,
        "unwell_since": memory.unwell_since,
        "away_since": memory.away_since,
        "attempts": memory.attempts,
        "not_before": memory.not_before,
        "topped_until": memory.topped_until,
        "failed": {key.hex(): at for key, at in memory.failed.items()},
    }


def _from_json(document: dict[str, Any]) -> Memory:
    return Memory(
        lease=None if document["lease"] is None else LeaseId(bytes.fromhex(document["lease"])),
        condition=Condition(document["condition"]),
        since=Millis(int(document["since"])),
        looked_at=Millis(int(document["looked_at"])),
        down_since=_moment(document["down_since"]),
        unwell_since=_moment(document["unwell_since"]),
        away_since=_moment(document["away_since"]),
        attempts=int(document["attempts"]),
        not_before=Millis(int(document["not_before"])),
        topped_until=Millis(int(document["topped_until"])),
        failed={PublicKey(bytes.fromhex(key)): Millis(int(at)) for key, at in document["failed"].items()},
    )


def _moment(value: Any) -> Millis | None:
    return None if value is None else Millis(int(value))
