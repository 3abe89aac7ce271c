"""Bids that tests vary, and what is known of who made them."""

from __future__ import annotations

from tests.support.workloads import attributes, key, unit

from fondaco.protocol.market import Bid, SignedBid
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import ChainId, GroupIndex, MicroCredits, Millis, OrderId, Signature
from fondaco.protocol.selection import Candidate, Latency, ProviderFacts, candidate

CHAIN = ChainId("test")
NOW = Millis(1_000)


def bid(
    provider: int,
    price: int,
    *,
    serial: int = 0,
    expires_at: int = 2_000,
    units: tuple[ResourceUnit, ...] = (unit(),),
) -> Candidate:
    body = Bid(
        order=OrderId(bytes(32)),
        group=GroupIndex(0),
        provider=key(provider),
        price_per_hour=MicroCredits(price),
        units=units,
        reclamation_window_ms=Millis(0),
        peer="peer",
        addresses=("/ip4/127.0.0.1/tcp/1",),
        serial=serial,
        expires_at=Millis(expires_at),
    )
    return candidate(CHAIN, SignedBid(bid=body, signature=Signature(bytes(64))))


def about(
    region: str = "us-west",
    *,
    p95: int | None = None,
    uptime: int | None = None,
    outages: int | None = None,
    audited_by: tuple[str, ...] = (),
    **declared: str,
) -> ProviderFacts:
    return ProviderFacts(
        attributes=attributes(region=region, **declared),
        audited_by=frozenset(audited_by),
        attestations=len(audited_by),
        latency=None
        if p95 is None
        else Latency(p50=Millis(p95 // 2), p95=Millis(p95), p99=Millis(p95 * 2), samples=9),
        uptime_permille={} if uptime is None else {7: uptime},
        outages=outages,
    )
