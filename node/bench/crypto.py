"""Signatures and the codec, one core: what every message costs before it means anything."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import msgpack
import nacl.bindings

from fondaco.node.bench import Figure, Result
from fondaco.node.samples import plain_unit
from fondaco.protocol import codec
from fondaco.protocol.limits import GIB
from fondaco.protocol.market import Bid, SignedBid, check_bid
from fondaco.protocol.resources import Endpoint, EndpointKind
from fondaco.protocol.scalars import ChainId, GroupIndex, MicroCredits, Millis, OrderId
from fondaco.protocol.signing import Signer

ROUNDS = 5
SECONDS_A_ROUND = 0.3
CHAIN = ChainId("bench-0000000000000000")


def measure() -> Result:
    """Operations a second, the best of a few rounds; the bare libraries beside ours."""
    signer = Signer(hashlib.sha256(b"bench").digest())
    bid = _bid(signer)
    signed = SignedBid(bid=bid, signature=signer.sign(CHAIN, bid))
    raw = codec.encode(signed)
    plain = codec.unpack(raw)
    bare, secret = nacl.bindings.crypto_sign_seed_keypair(hashlib.sha256(b"bench").digest())
    bare_signed = nacl.bindings.crypto_sign(raw, secret)
    return Result(
        bench="crypto",
        parameters={"message_bytes": len(raw), "rounds": ROUNDS},
        figures={
            "verify_per_s": _rate(lambda: check_bid(CHAIN, signed)),
            "sign_per_s": _rate(lambda: signer.sign(CHAIN, bid)),
            "encode_per_s": _rate(lambda: codec.encode(signed)),
            "decode_per_s": _rate(lambda: codec.decode(raw, SignedBid)),
        },
        limit={
            "pynacl_verify_per_s": _rate(lambda: nacl.bindings.crypto_sign_open(bare_signed, bare)),
            "pynacl_sign_per_s": _rate(lambda: nacl.bindings.crypto_sign(raw, secret)),
            "msgpack_pack_per_s": _rate(lambda: msgpack.packb(plain)),
            "msgpack_unpack_per_s": _rate(lambda: msgpack.unpackb(raw)),
        },
    )


def _bid(signer: Signer) -> Bid:
    endpoint = Endpoint(kind=EndpointKind.SHARED_HTTP, sequence_number=0)
    return Bid(
        order=OrderId(bytes(32)),
        group=GroupIndex(0),
        provider=signer.public_key,
        price_per_hour=MicroCredits(12_345),
        units=(plain_unit(cpu_milli=1_000, memory_bytes=GIB, endpoints=(endpoint,)),),
        reclamation_window_ms=Millis(0),
        peer="12D3KooWBenchmarkPeer",
        addresses=("/ip4/127.0.0.1/tcp/4001",),
        serial=1,
        expires_at=Millis(1_800_000_000_000),
    )


def _rate(action: Callable[[], object]) -> Figure:
    best = 0.0
    for _ in range(ROUNDS):
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SECONDS_A_ROUND:
            for _ in range(50):
                action()
            count += 50
        best = max(best, count / took)
    return Figure(value=round(best), unit="1/s")
