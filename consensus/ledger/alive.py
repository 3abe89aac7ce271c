"""Signs of life: a lease accrues only while its provider says that it is there.

Every sign covers `alive_cover_ms` from its block on. Signs that follow each other in time make one stretch; where
the next comes too late, there is a gap for which nobody is paid. So each provider has a clock that runs in its
stretches and stands in its gaps, and what a lease accrues over any time is the difference of two readings of that
clock. The lease keeps the reading up to which it has accrued; no sign of life ever touches a lease.

The clock can be read back to the end of the stretch before the newest one. That is enough, since no gap is noted
while the ledger is behind with what fell due: settlement then asks for moments after the newest gap only, or,
where a provider was silent when an escrow was last looked at, for such in which its clock stood.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import due
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import SignsOfLife, key_alive
from fondaco.protocol.scalars import Millis, PublicKey


def signs_of(state: State, provider: PublicKey) -> SignsOfLife:
    """Of a provider that is, or was, registered."""
    return state.require(key_alive(provider), SignsOfLife)


def reading(signs: SignsOfLife, at: Millis) -> Millis:
    """What the provider's clock shows at `at`, in ms; never less for a later moment."""
    if at < signs.resumed_at:
        return Millis(signs.counted_ms - max(0, signs.lapsed_at - at))
    return Millis(signs.counted_ms + min(at, signs.covered_to) - signs.resumed_at)


def note(state: State, params: Params, provider: PublicKey, *, now: Millis) -> Millis:
    """Take a sign of life; for how long there had been none that covered, in ms.

    Raises `Refused` `ledger.behind` where it ends a gap and something is still to be done as of an earlier moment.
    """
    before = state.get(key_alive(provider), SignsOfLife)
    covered_to = Millis(now + params.alive_cover_ms)
    if before is None:
        after = SignsOfLife(
            alive_at=now, covered_to=covered_to, resumed_at=now, lapsed_at=now, counted_ms=Millis(0)
        )
    elif now <= before.covered_to:
        after = replace(before, alive_at=now, covered_to=Millis(max(covered_to, before.covered_to)))
    else:
        waiting = due.next_moment(state)
        if waiting is not None and waiting < now:
            raise Refused(
                "ledger.behind",
                "the ledger has fallen behind with what is due",
                hint="try again in the next block",
            )
        after = SignsOfLife(
            alive_at=now,
            covered_to=covered_to,
            resumed_at=now,
            lapsed_at=before.covered_to,
            counted_ms=reading(before, now),
        )
    state.put(key_alive(provider), after)
    return Millis(0 if before is None else max(0, now - before.covered_to))


def is_at_fault(signs: SignsOfLife, params: Params, *, now: Millis) -> bool:
    """Whether the provider has been silent for so long that anybody may end its leases."""
    return now - signs.alive_at > params.fault_after_ms
