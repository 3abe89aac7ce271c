"""The tenant's side of the lease channel: what people do with a workload, as Python calls.

    channel = ChannelClient(open_stream=..., signer=..., chain=..., lease=..., provider=..., ...)
    async for progress in channel.put_manifest(sealed, receipt): ...
    answer = await channel.http_get("web", 80, "/")

Every call opens a stream of its own and proves itself anew. Whatever the provider denies comes as `Refused` with
its code; a provider that is away, slow or breaks off as `Unreachable`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

import h11
import trio

from fondaco.node.tenant.executing import RunningCommand
from fondaco.protocol import channel_calls as calls
from fondaco.protocol import channel_exec, codec, limits
from fondaco.protocol.capabilities import SignedCapability
from fondaco.protocol.channel import ClientSession
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.scalars import ChainId, Hash, LeaseId, Millis, PublicKey
from fondaco.protocol.signing import Signer
from fondaco.provider.duplex import Duplex
from fondaco.provider.ports import Stream

T = TypeVar("T")
NEVER = Millis(0)
CHUNK_BYTES = 64 * limits.KIB
"""What a forwarded stream puts in one frame: large enough to be cheap, small enough to keep others moving."""


class HttpAnswer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case; of a repeated header the last."""
    body: bytes


class Items(Generic[T]):
    """What a call gives back, one by one. Who leaves early does so by `async with` or `aclose`."""

    def __init__(self, begin: Callable[[], Awaitable[Duplex]], kind: type[T]) -> None:
        self._begin = begin
        self._kind = kind
        self._duplex: Duplex | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        try:
            if self._duplex is None:
                self._duplex = await self._begin()
                await self._duplex.end()  # all was said with the parameters
            data = await self._duplex.receive()
            item = None if data is None else codec.decode(data, self._kind)
        except BaseException:
            await self.aclose()
            raise
        if item is None:
            await self.aclose()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        self._closed = True
        if self._duplex is not None:
            await self._duplex.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ForwardStream(trio.abc.HalfCloseableStream):
    """A connection to a port inside the workload; trio's own errors, so that it is a stream like any other."""

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex
        self._left = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, at the pace at which the workload reads."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), CHUNK_BYTES):
                await self._duplex.send(bytes(view[start : start + CHUNK_BYTES]))
        except FondacoError as error:
            raise trio.BrokenResourceError(str(error)) from error
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """The workload sees the end of its input; its output still comes."""
        try:
            await self._duplex.end()
        except FondacoError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; empty at the end."""
        try:
            if not self._left:
                self._left = await self._duplex.receive() or b""
        except FondacoError as error:
            raise trio.BrokenResourceError(str(error)) from error
        size = len(self._left) if max_bytes is None else max_bytes
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    async def aclose(self) -> None:
        await self._duplex.aclose()
        await trio.lowlevel.checkpoint()


class ChannelClient:
    """Calls the provider of one lease: as its tenant, or by a token that the tenant gave to `signer`."""

    def __init__(
        self,
        *,
        open_stream: Callable[[], Awaitable[Stream]],
        signer: Signer,
        chain: ChainId,
        lease: LeaseId,
        provider: PublicKey,
        own_peer: str,
        provider_peer: str,
        token: SignedCapability | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._open_stream = open_stream
        self._signer = signer
        self._chain = chain
        self._lease = lease
        self._provider = provider
        self._own_peer = own_peer
        self._provider_peer = provider_peer
        self._token = token
        self._random = random

    async def call(self, method: str, params: object) -> Duplex:
        """Open a call and return it once the provider has accepted it; close it with `aclose`.

        Raises `Refused` with the provider's code, `channel.provider` or `channel.proof` if it is not the one the
        lease names, `Unreachable` if it does not answer.
        """
        stream = await self._open_stream()
        session = ClientSession(
            self._chain,
            self._signer,
            lease=self._lease,
            provider=self._provider,
            tenant_peer=self._own_peer,
            provider_peer=self._provider_peer,
            nonce=Hash(self._random(32)),
            token=self._token,
        )
        duplex = Duplex(stream, session)
        try:
            await duplex.shake(method, codec.encode(params))
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await stream.reset()
            if self._token is not None and isinstance(error, Refused) and error.code == "channel.version":
                raise Refused("capability.unsupported", "this provider is too old to take a token") from error
            raise
        # Reading goes on whether or not anybody iterates: a stream nobody reads is reset after five seconds. It
        # ends with the call, and needs nothing of the caller's nurseries.
        trio.lowlevel.spawn_system_task(duplex.pump)
        return duplex

    def _items(self, method: str, params: object, kind: type[T]) -> Items[T]:
        return Items(lambda: self.call(method, params), kind)

    def put_manifest(self, sealed: bytes, receipt: SignedReceipt) -> Items[calls.Progress]:
        """Hand the workload over; progress until it runs and is activated. Again for one that runs: how it is."""
        return self._items(calls.PUT_MANIFEST, calls.PutManifest(sealed=sealed, receipt=receipt), calls.Progress)

    async def _one(self, method: str, params: object, kind: type[T]) -> T:
        async with self._items(method, params, kind) as items:
            async for item in items:
                return item
        raise PeerFault("channel.empty", f"the provider answered nothing to {method!r}")

    async def status(self) -> calls.Status:
        return await self._one(calls.STATUS, calls.StatusRequest(), calls.Status)

    def logs(
        self, service: str = "", tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> Items[calls.LogItem]:
        """The workload's output since its last start, oldest first; all services where none is named.

        `previous`: that of the run before; `Refused` `logs.no_previous` where there was none.
        """
        request = calls.LogsRequest(service=service, tail=tail, follow=follow, previous=previous)
        return self._items(calls.LOGS, request, calls.LogItem)

    def events(self, after: int = 0, follow: bool = False) -> Items[calls.LeaseEvent]:
        """What its provider did with the lease and saw of it, oldest first, from after the number `after`."""
        return self._items(calls.EVENTS, calls.EventsRequest(after=after, follow=follow), calls.LeaseEvent)

    def usage(self, service: str = "", follow: bool = False) -> Items[calls.Usage]:
        """What each replica that runs takes now; each second again with `follow`."""
        return self._items(calls.USAGE, calls.UsageRequest(service=service, follow=follow), calls.Usage)

    async def forward(self, service: str, port: int) -> ForwardStream:
        """Connect to `port` inside the workload. Raises `Refused` `workload.dial` if nothing listens there."""
        return ForwardStream(await self.call(calls.FORWARD, calls.ForwardRequest(service=service, port=port)))

    async def exec(self, request: channel_exec.ExecRequest) -> RunningCommand:
        """Run a command inside the workload; close what is returned, by which it is killed if it still runs.

        Raises `Refused` `exec.*`, `workload.unknown`, `workload.gone` or `workload.exec`. A program that is not
        there is exit code 127.
        """
        channel_exec.check(request)  # the provider would say the same, a round trip later
        return RunningCommand(await self.call(channel_exec.EXEC, request), request)

    async def get_manifest(self) -> calls.HandedOver:
        """What the provider says that it serves, unchecked: see `Access.get_manifest`.

        Raises `Refused` `manifest.none`.
        """
        duplex = await self.call(calls.GET_MANIFEST, calls.GetManifest())
        data = bytearray()
        try:
            await duplex.end()
            while (piece := await duplex.receive()) is not None:
                data += piece
                if len(data) > limits.CHANNEL_REQUEST_BYTES:
                    raise PeerFault("channel.too_large", "a longer manifest than there may be")
        finally:
            await duplex.aclose()
        return codec.decode(bytes(data), calls.HandedOver, limit=limits.CHANNEL_REQUEST_BYTES)

    async def attest(self, nonce: Hash) -> None:
        """Ask for evidence of the hardware. Raises `Refused` `attestation.none` where there is none.

        No provider gives any yet, and nothing here could judge it: `attestation.unknown` says so of one that does.
        """
        await (await self.call(calls.ATTESTATION, calls.AttestationRequest(nonce=nonce))).aclose()
        raise Refused("attestation.unknown", "the provider gives evidence of a kind that is not known here")

    async def stop(self, *, grace_ms: int = 2_000) -> calls.Stopped:
        """Have everything stopped now, until something is handed over again; how it ended. For the tenant only.

        The lease goes on, and is paid for, until the ledger closes it. Raises `Refused` `close.grace`.
        """
        return await self._one(calls.CLOSE, calls.CloseRequest(grace_ms=Millis(grace_ms)), calls.Stopped)

    async def revoke(self, tokens: Sequence[calls.Revocation], *, before: Millis = NEVER) -> calls.Revoked:
        """Have tokens of this lease be good for nothing any more, by name and by when they were issued.

        On the provider's disk on return, and calls by them cut off. For the tenant only. Raises `Refused`
        `capability.full`, `capability.time` or `provider.disk`.
        """
        return await self._one(
            calls.REVOKE, calls.RevokeRequest(tokens=tuple(tokens), before=before), calls.Revoked
        )

    async def http_get(self, service: str, port: int, path: str = "/") -> HttpAnswer:
        """One GET through the channel.

        Raises `Refused` `http.malformed` or `http.too_large`, and `Unreachable` `http.broken` for an answer that
        was cut short.
        """
        stream = await self.forward(service, port)
        try:
            return await _get(stream, service, path)
        except h11.RemoteProtocolError as error:
            raise Refused("http.malformed", f"{service}:{port} does not speak HTTP/1.1: {error}") from None
        except h11.LocalProtocolError as error:
            raise Refused("http.path", f"{path!r} is no path to ask for: {error}") from None
        except trio.BrokenResourceError as error:
            raise Unreachable("http.broken", f"{service}:{port} broke off: {error}") from None
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()


async def _get(stream: ForwardStream, host: str, path: str) -> HttpAnswer:
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", host), ("connection", "close"), ("accept", "*/*"), ("user-agent", "fondaco")]
    head = connection.send(h11.Request(method="GET", target=path, headers=headers))
    await stream.send_all((head or b"") + (connection.send(h11.EndOfMessage()) or b""))
    answer: h11.Response | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            case h11.Response() as answer:
                pass
            case h11.Data(data=data):
                body += data
                if len(body) > limits.HTTP_BODY_BYTES:
                    raise Refused("http.too_large", f"more than {limits.HTTP_BODY_BYTES} bytes: use a forward")
            case h11.EndOfMessage() | h11.ConnectionClosed():
                break
    if answer is None:
        raise Unreachable("http.broken", f"{host} ended the connection without an answer")
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    return HttpAnswer(status=answer.status_code, headers=found, body=bytes(body))
