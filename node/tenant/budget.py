"""The most that one key may put into escrow, or send away, within a span of time.

    Tenant.connect(home, budget=credits("5/day"))

Counted on disk, so that it holds over processes: what is to go out is written down before it is signed, and struck
out only where the ledger refused it. What may have been done counts. What a lease gives back makes room again, up
to what was put into its deployment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fondaco.node import clock
from fondaco.node.files import alone, write_atomically
from fondaco.node.tenant import bounds
from fondaco.node.tenant.amounts import micro
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import deployment_id, order_id
from fondaco.protocol.messages import Deposit, Message, OpenLease, Transfer
from fondaco.protocol.scalars import ChainId, PublicKey
from fondaco.protocol.selection import show_credits

SPANS = {"hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
_LONGEST_MS = max(SPANS.values())
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) */ *([a-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """So many ucredit within any stretch of `span`: an hour, a day or a week."""

    ucredit: int
    span: str

    def __str__(self) -> str:
        return f"{show_credits(self.ucredit)} credits/{self.span}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What went out at a time, in ms, for what: a deployment's id, or where it was sent."""

    at: int
    to: str
    ucredit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the file of a key says."""

    limit: Budget | None = None
    """That its owner set for every command."""
    went: tuple[Outgoing, ...] = ()
    """Oldest first, of a week."""

    def within(self, span: str, now: int) -> int:
        """Ucredit that went out in the stretch of `span` before `now`."""
        return sum(one.ucredit for one in self.went if one.at > now - SPANS[span])


def credits(text: str) -> Budget:
    """Read `5/day`, `0.25/hour`, `30/week`: credits within a span. Raises `Refused` `budget.malformed`."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found[2] not in SPANS:
        raise Refused(
            "budget.malformed",
            f"{text[:40]!r} is no budget",
            hint=f"write credits and a span: 5/day; spans are {', '.join(SPANS)}",
        )
    return Budget(ucredit=micro(found[1]), span=found[2])


class Purse:
    """What one key has spent from one home, and what it may."""

    def __init__(self, home: Path, key: PublicKey, *, limit: Budget | None = None) -> None:
        """`limit`: of this process alone, besides the one that is kept."""
        self._path = home / "budgets" / f"{addresses.encode(key)}.json"
        self.limit = limit

    def read(self) -> Kept:
        """Raises `Refused` `budget.damaged`."""
        return _load(self._path)

    def set(self, limit: Budget | None) -> None:
        """Keep a limit for every process that uses this key here; None lifts it."""
        with alone(self._path.with_suffix(".lock")):
            _save(self._path, replace(self.read(), limit=limit))

    def limits(self, kept: Kept) -> list[Budget]:
        """What holds: the one that is kept, and this process's own."""
        return [one for one in (kept.limit, self.limit) if one is not None]

    def reserve(self, outgoing: Mapping[str, int]) -> None:
        """Count what is about to be signed: to whom -> ucredit. Raises `Refused` `budget.exceeded`."""
        if not any(outgoing.values()):
            return
        with alone(self._path.with_suffix(".lock")):
            kept, now = self.read(), clock.now()
            asked = sum(outgoing.values())
            for limit in self.limits(kept):
                spent = kept.within(limit.span, now)
                if spent + asked > limit.ucredit:
                    raise _exceeded(limit, spent, asked)
            went = [Outgoing(at=now, to=to, ucredit=amount) for to, amount in outgoing.items()]
            _save(self._path, replace(kept, went=_bounded((*kept.went, *went), now)))

    def give_back(self, returned: Mapping[str, int]) -> None:
        """What was not spent after all, or came back: the newest that went there is struck out first."""
        if not any(returned.values()):
            return
        with alone(self._path.with_suffix(".lock")):
            kept = self.read()
            _save(self._path, replace(kept, went=_without(kept.went, dict(returned))))


def outgoing(chain: ChainId, messages: tuple[Message, ...]) -> dict[str, int]:
    """What a transaction takes out of its sender's account: deposits and transfers; to whom -> ucredit."""
    found: dict[str, int] = {}
    for message in messages:
        match message:
            case OpenLease(order=signed) if signed.order.payer is None:
                to, amount = deployment_id(order_id(chain, signed.order)).hex(), message.deposit
            case Deposit(payer=None):
                to, amount = message.deployment.hex(), message.amount
            case Transfer():
                to, amount = addresses.encode(message.to), message.amount
            case _:
                continue
        found[to] = found.get(to, 0) + amount
    return found


def _exceeded(limit: Budget, spent: int, asked: int) -> Refused:
    left = show_credits(max(0, limit.ucredit - spent))
    return Refused(
        "budget.exceeded",
        f"{show_credits(asked)} credits are more than the {left} left of {limit}; nothing was signed",
        hint="wait, close what is not needed, deposit less, or raise it: fondaco budget AMOUNT/SPAN",
    )


def _bounded(went: tuple[Outgoing, ...], now: int) -> tuple[Outgoing, ...]:
    """Without what no limit asks for any more; of too many, the oldest become one, as of the newer."""
    kept = [one for one in went if one.at > now - _LONGEST_MS]
    while len(kept) > bounds.BUDGET_ENTRIES:
        first, second, *rest = kept
        kept = [Outgoing(at=second.at, to="", ucredit=first.ucredit + second.ucredit), *rest]
    return tuple(kept)


def _without(went: tuple[Outgoing, ...], returned: dict[str, int]) -> tuple[Outgoing, ...]:
    left = []
    for one in reversed(went):
        struck = min(one.ucredit, returned.get(one.to, 0))
        if struck:
            returned[one.to] -= struck
        if one.ucredit > struck:
            left.append(replace(one, ucredit=one.ucredit - struck))
    return tuple(reversed(left))


def _save(path: Path, kept: Kept) -> None:
    limit = kept.limit
    document = {
        "limit": None if limit is None else {"ucredit": limit.ucredit, "span": limit.span},
        "went": [[one.at, one.to, one.ucredit] for one in kept.went],
    }
    write_atomically(path, json.dumps(document).encode())


def _load(path: Path) -> Kept:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        limit = document["limit"]
        found = None if limit is None else Budget(ucredit=int(limit["ucredit"]), span=str(limit["span"]))
        if found is not None and found.span not in SPANS:
            raise ValueError(f"{found.span} is no span")
        went = tuple(Outgoing(at=int(at), to=str(to), ucredit=int(amount)) for at, to, amount in document["went"])
    except FileNotFoundError:
        return Kept()
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "move the file away: the budget then has to be set anew, and counts from nothing"
        raise Refused("budget.damaged", f"{path}: {error}", hint=hint) from None
    return Kept(limit=found, went=went)
