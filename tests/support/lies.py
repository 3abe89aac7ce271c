"""Every lie that `tests/malice` tells, by name: see `malice.Lie`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.false_answers import (
    absent,
    answering,
    bending,
    by_strangers,
    dropped_and_said_to_be_applied,
    ends_at_once,
    lease_that,
    listing,
    made_up_keys,
    no_faucet,
    of_another_key,
    outcome,
    refused_after_all,
    refuses_everything,
    replayed,
    rich,
    silent,
    takes_everything_and_drops_it,
    undercut,
    without_the_cheap,
)
from tests.support.false_headers import frozen, signed_twice, signed_twice_when_asked_back
from tests.support.false_streams import (
    beyond_the_credit,
    beyond_the_limit,
    drips,
    floods_answers,
    floods_records,
    goes_away,
    greeted,
    hangs,
    mute,
    no_hello,
    of_another_chain,
    stops_midway,
    up_to_the_limit,
)
from tests.support.malice import Liar, Lie

from fondaco.protocol.light import ProvenRecord
from fondaco.protocol.records import PARAMS, LeaseState
from fondaco.protocol.scalars import (
    MicroCredits,
    Millis,
)

Bend = Callable[[Liar, bytes, ProvenRecord], Any]


LIES: dict[str, Lie] = {
    # Forged records
    "a balance with the proof of another": Lie(bending(b"account/", rich), fault="light.proof"),
    "parameters": Lie(bending(PARAMS, no_faucet), fault="light.proof"),
    "the record of another key": Lie(bending(b"account/", of_another_key), fault="light.proof"),
    "that there is no account": Lie(bending(b"account/", absent), fault="light.proof"),
    "that there is no lease": Lie(bending(b"lease/", absent), fault="light.proof"),
    "a lease at another price": Lie(
        bending(b"lease/", lease_that(price_per_hour=MicroCredits(1))), fault="light.proof"
    ),
    "that a lease is active": Lie(bending(b"lease/", lease_that(state=LeaseState.ACTIVE)), fault="light.proof"),
    "that a lease is closed and paid nothing": Lie(
        bending(b"lease/", lease_that(state=LeaseState.CLOSED, paid=MicroCredits(0), closed_at=Millis(1))),
        fault="light.proof",
    ),
    "that a provider is unknown": Lie(bending(b"provider/", absent), fault="light.proof"),
    # Outcomes
    "applied, of what it dropped": Lie(dropped_and_said_to_be_applied, fault="light.outcome"),
    "refused, of what was applied": Lie(outcome(refused_after_all), fault="light.outcome"),
    "no to everything": Lie(refuses_everything),
    "yes to everything, and drops it": Lie(takes_everything_and_drops_it),
    # Bids
    "no bids at all": Lie(silent),
    "that nobody will bid any more": Lie(ends_at_once),
    "only the dear bids": Lie(answering(without_the_cheap)),
    "cheaper bids than were made": Lie(answering(undercut), fault="signature.bad"),
    "bids of strangers": Lie(answering(by_strangers), fault="light.strangers"),
    "bids on another order": Lie(answering(replayed), fault="light.answer"),
    "no providers": Lie(listing(lambda keys: [])),
    "providers that are none": Lie(listing(lambda keys: keys + made_up_keys(20)), fault="light.providers"),
    # The past
    "nothing after the first look": Lie(frozen(midway=False)),
    "nothing after the lease was ordered": Lie(frozen(midway=True)),
    # Stalls
    "hangs": Lie(hangs, slow=True),
    "mute": Lie(stream=mute, slow=True),
    "a byte a second": Lie(stream=drips, slow=True),
    "half an answer": Lie(stream=greeted(stops_midway), slow=True),
    "away": Lie(goes_away),
    # Floods
    "answers without end": Lie(floods_answers, fault="light.flood"),
    "a record without end": Lie(floods_records),
    "thousands of providers": Lie(listing(lambda keys: keys + made_up_keys(5_000)), fault="light.flood"),
    "frames beyond the limit": Lie(stream=greeted(beyond_the_limit), slow=True, fault="frame.too_large"),
    "frames up to the limit": Lie(stream=greeted(up_to_the_limit), slow=True, fault="codec"),
    "items beyond the credit": Lie(stream=greeted(beyond_the_credit), slow=True, fault="codec"),
    # Hellos
    "another chain": Lie(stream=of_another_chain, slow=True, fault="hello.chain"),
    "no hello": Lie(stream=no_hello, slow=True, fault="codec"),
}

DAILY = {
    "a balance with the proof of another",
    "that a lease is active",
    "applied, of what it dropped",
    "refused, of what was applied",
    "only the dear bids",
    "nothing after the lease was ordered",
    "hangs",
    "answers without end",
}
"""One of each kind, for every day; the others are for nights."""

FORKS = {"from the start": Lie(signed_twice), "before it spends": Lie(signed_twice_when_asked_back, slow=True)}
