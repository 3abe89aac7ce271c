"""What the ledger remembers of past heights, as long as evidence about them may be handed in.

The validators of every height are kept, as one record for each change of keys or powers, and of time one moment
for each `STRETCH` heights. A height is forgotten when evidence about it has expired: when it is BOTH more than
`evidence_blocks` blocks and more than `evidence_ms` old (market.md). Its time is taken to be that of the next
stretch, so that nothing expires early.
"""

from __future__ import annotations

from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.records import (
    Convicted,
    Moment,
    ValidatorsFrom,
    key_convicted,
    key_convicted_at,
    key_moment,
    key_validators_from,
)
from fondaco.protocol.scalars import INT_MAX, Hash, Height, Millis

STRETCH = 100
FORGOTTEN_STRETCHES = 2
"""In one block that begins a stretch, so that it catches up where the limits were lowered."""
FORGOTTEN_RECORDS = 256
MOMENTS, SETS, CONVICTIONS = b"moment/", b"validators-from/", b"evidence-height/"


def record_validators(state: State, height: Height, validators: ValidatorSet) -> None:
    """From `height` on these decide."""
    state.put(key_validators_from(height), ValidatorsFrom(members=validators.members))


def validators_at(state: State, height: Height) -> ValidatorSet | None:
    """Who decided, or will decide, `height`; None where that is not known (any more)."""
    found = state.scan_from(SETS, INT_MAX - height, 1)
    return ValidatorSet(members=codec.decode(found[0][1], ValidatorsFrom).members) if found else None


def is_expired(state: State, params: Params, height: Height, *, head: Height, now: Millis) -> bool:
    """Whether evidence about `height` is too old for a block at `now` on top of `head`."""
    following = height // STRETCH + 1
    if head - height <= params.evidence_blocks or following * STRETCH > head:
        return False
    moment = state.get(key_moment(following), Moment)
    return moment is None or now - moment.time > params.evidence_ms


def remember_conviction(state: State, evidence: Hash, height: Height) -> None:
    state.put(key_convicted(evidence), Convicted(height=height))
    state.put(key_convicted_at(height, evidence), evidence)


def turn_page(state: State, params: Params, *, height: Height, now: Millis) -> None:
    """With the first block of a stretch: note its time, and forget what can convict nobody any more."""
    if height % STRETCH:
        return
    state.put(key_moment(height // STRETCH), Moment(time=now))
    for key, _ in state.scan(MOMENTS, FORGOTTEN_STRETCHES):
        stretch = int.from_bytes(key[len(MOMENTS) :], "big")
        last = Height((stretch + 1) * STRETCH - 1)
        if not is_expired(state, params, last, head=Height(height - 1), now=now):
            break
        state.put(key, None)
        _forget_below(state, Height(last + 1))


def _forget_below(state: State, height: Height) -> None:
    """Drop sets that held only below `height`, and evidence about heights below it."""
    for key, _ in state.scan_from(SETS, INT_MAX - height, FORGOTTEN_RECORDS)[1:]:
        state.put(key, None)
    for key, _ in state.scan_before(CONVICTIONS, height, FORGOTTEN_RECORDS):
        state.put(key, None)
        state.put(key_convicted(Hash(key[len(CONVICTIONS) + 8 :])), None)
