"""A load for networks under measurement: transfers handed to one node, one after the other or many at once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fondaco.node import clock
from fondaco.node.keys.sealing import random_salt
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, light
from fondaco.protocol.frames import hello
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import ChainId, MicroCredits, Millis
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction, transaction_id

LIFE_MS = 60_000


class Load:
    """Hands transfers of one key in; unlike a tenant it asks one node, and believes it: cheap."""

    def __init__(self, client: RpcClient, peer: PeerId, chain: ChainId, signer: Signer) -> None:
        self._client = client
        self._peer = peer
        self._chain = chain
        self._signer = signer

    async def pay(self) -> None:
        """One micro-credit to itself; returns when the node has it in a block."""
        message = Transfer(to=self._signer.public_key, amount=MicroCredits(1))
        signed = sign_transaction(
            self._signer,
            self._chain,
            (message,),
            expires_at=Millis(clock.now() + LIFE_MS),
            salt=random_salt(),
        )
        await self._client.call(self._peer, "submit_transaction", [codec.encode(signed)])
        await self._client.call(self._peer, "transaction", [transaction_id(signed.transaction)])


@asynccontextmanager
async def open_load(chain: ChainId, address: Address, signer: Signer) -> AsyncIterator[Load]:
    """Connect to the node at `address`. Raises `Unreachable`."""
    async with open_host(secrets.token_bytes(32), None) as host:
        peer = await host.connect(address)
        yield Load(RpcClient(host, light.PROTOCOL, hello=hello(chain)), peer, chain, signer)
