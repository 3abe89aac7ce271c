"""Headers of a lying node: old ones for new ones, and those of a second chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio
from tests.support.malice import Liar, Method

from fondaco.node.keys.keystore import Keystore
from fondaco.protocol import codec
from fondaco.protocol.agreement import SignedHeader
from fondaco.protocol.light import LightBlock, ProvenRecord
from fondaco.protocol.market import deployment_id, lease_id, order_id
from fondaco.protocol.messages import OpenLease
from fondaco.protocol.records import key_lease
from fondaco.protocol.scalars import (
    GroupIndex,
)
from fondaco.protocol.signing import sha256
from fondaco.protocol.transactions import SignedTransaction

Bend = Callable[[Liar, bytes, ProvenRecord], Any]


# The past for the present


def frozen(midway: bool) -> Callable[[Liar], dict[str, Method]]:
    """Shows the blocks and records of when it first looked, or of when the lease was about to be made."""

    def methods(liar: Liar) -> dict[str, Method]:
        kept: dict[bytes, Any] = {}
        froze = not midway

        async def once(name: str, params: Any) -> Any:
            key = repr((name, params)).encode()
            if key not in kept or not froze:
                kept[key] = await liar.ask(name, *params)
            return kept[key]

        async def head(peer: str, params: Any) -> Any:
            return await once("head", params)

        async def record(peer: str, params: Any) -> Any:
            return await once("record", params)

        async def watch_record(peer: str, params: Any) -> Any:
            yield await once("record", params)
            await trio.sleep_forever()

        async def submit_transaction(peer: str, params: Any) -> Any:
            nonlocal froze
            for message in codec.decode(params[0], SignedTransaction).transaction.messages:
                if isinstance(message, OpenLease):
                    order = order_id(liar.chain, message.order.order)
                    await once("record", [key_lease(lease_id(deployment_id(order), GroupIndex(0)))])
                    froze = True
            return await liar.ask("submit_transaction", *params)

        async def transaction(peer: str, params: Any) -> Any:
            if froze and midway:
                await trio.sleep_forever()
            return await liar.ask("transaction", *params)

        return {
            "head": head,
            "record": record,
            "watch_record": watch_record,
            "submit_transaction": submit_transaction,
            "transaction": transaction,
        }

    return methods


# A second chain


def signed_twice(liar: Liar) -> dict[str, Method]:
    """Every header it shows is of another chain, with another state, which all validators signed as well."""
    return {name: showing_another_chain(liar, name) for name in ("head", "block")}


def signed_twice_when_asked_back(liar: Liar) -> dict[str, Method]:
    """It shows the true head, and another one when it is asked for that height again."""
    return {"block": showing_another_chain(liar, "block")}


def showing_another_chain(liar: Liar, method: str) -> Method:
    signers = {
        key.public_key: Keystore(home / "keys").load("validator", (home / "passphrase").read_text()).signer()
        for home in sorted(liar.keys.glob("validator-*"))
        for key in [Keystore(home / "keys").info("validator")]
    }

    def forked(block: LightBlock) -> LightBlock:
        header = replace(block.signed.header, state_root=sha256(b"another state"))
        certificate = replace(block.signed.certificate, value=header.hash(), signatures=())
        votes = tuple(
            signers[member.public_key].sign(liar.chain, certificate.vote()) for member in block.validators
        )
        signed = SignedHeader(header=header, certificate=replace(certificate, signatures=votes))
        return replace(block, signed=signed)

    async def shown(peer: str, params: Any) -> Any:
        return codec.encode(forked(codec.decode(await liar.ask(method, *params), LightBlock)))

    return shown
