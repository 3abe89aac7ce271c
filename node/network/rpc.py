"""Requests and server streams over one persistent framed stream per peer and protocol.

    RpcServer(host, "/fondaco/sync/1", {"blocks": blocks, "watch": watch}, hello=hello(chain))
    client = RpcClient(host, "/fondaco/sync/1", hello=hello(chain))
    reply = await client.call(peer, "blocks", [1, 10], timeout_ms=2_000)
    async with client.stream(peer, "watch", []) as items:
        async for item in items: ...

A handler is `async (peer, params) -> plain`, or an async generator of plain values. What it refuses, the caller
sees refused; a `PeerFault` resets the stream and scores the client down. The messages are in `protocol.rpc`.
"""

from __future__ import annotations

from fondaco.node.network.rpc_client import Items, RpcClient
from fondaco.node.network.rpc_server import Handler, RpcServer

__all__ = ["Handler", "Items", "RpcClient", "RpcServer"]
