"""What a provider serves and answers; nothing of it where the node is none."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.node.app import Node
from fondaco.node.metrics.model import Reading, counter, gauge
from fondaco.protocol.channel_calls import Happening
from fondaco.provider.leases import Phase

LEASES = gauge("provider_leases", "Leases that are not over, by how far they have come.", "phase")
RESERVATIONS = gauge("provider_reservations", "Reservations: `promised` to bids, or `let`.", "state")
UTILISATION = gauge("provider_utilisation_ratio", "What is promised or let, of all there is.", "resource")
BIDS = counter("provider_bids", "Bids made, lower ones included.")
DECLINES = counter("provider_declines", "Declines by the kind of reason; one may have several.", "reason")
EVENTS = counter("provider_lease_events", "What happened to leases; `paused` is before each restart.", "kind")
CALLS = counter("provider_channel_calls", "Calls on the channels of leases.", "method")
CALLS_REFUSED = counter("provider_channel_refused", "Calls refused before they were served.", "code")
CALLS_OPEN = gauge("provider_channel_open_calls", "Calls under way, handshakes included.")
WITHDRAWALS = counter("provider_withdrawals", "Withdrawals of what a lease had earned.")
SWEPT = counter("provider_swept_ucredit", "Moved to the account that is named for earnings.")
EARNINGS_FAILED = counter("provider_earnings_failures", "Transactions to take or move earnings that failed.")

METRICS = (
    *(LEASES, RESERVATIONS, UTILISATION, BIDS, DECLINES, EVENTS, CALLS, CALLS_REFUSED, CALLS_OPEN),
    *(WITHDRAWALS, SWEPT, EARNINGS_FAILED),
)


def read(node: Node) -> Iterator[Reading]:
    if node.provider is None:
        return
    agent, gateway = node.provider.agent, node.provider.gateway
    phases = agent.phases()
    for phase in Phase:
        yield LEASES.at(phases[phase.value], phase.value)
    leased = [reservation.lease is not None for reservation in agent.inventory.reservations]
    yield RESERVATIONS.at(len(leased) - sum(leased), "promised")
    yield RESERVATIONS.at(sum(leased), "let")
    for resource, permille in agent.inventory.utilisation().items():
        yield UTILISATION.at(permille / 1_000, resource)
    yield BIDS.at(agent.bidder.bids)
    yield from DECLINES.by_code(agent.bidder.declines)
    for kind in Happening:
        yield EVENTS.at(agent.events.counts[kind.value], kind.value)
    yield from CALLS.by_code(gateway.calls)
    yield from CALLS_REFUSED.by_code(gateway.refusals)
    yield CALLS_OPEN.at(gateway.open_calls)
    yield WITHDRAWALS.at(agent.earnings.withdrawals)
    yield SWEPT.at(agent.earnings.swept)
    yield EARNINGS_FAILED.at(agent.earnings.failures)
