"""The messages of the request protocol: one stream, many requests, each known by an id its client chose.

    client                                server
    Call(id, method, params)      ->
                                  <-      Reply(id, result)              a plain request ends here
                                  <-      Item(id, value) ...            a stream goes on
    Credit(id, size)              ->                                     as the application reads
                                  <-      End(id) or Failure(id, ...)    ends either
    Cancel(id)                    ->                                     no answer follows

Items cost credit: their bytes and `limits.RPC_ITEM_OVERHEAD_BYTES` each. A server starts with
`limits.RPC_STREAM_WINDOW_BYTES`, may send while its credit is positive, and waits otherwise. So what a slow
application leaves lying is bounded, and the task that reads the stream never waits for it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, Refused, Unreachable


class FailureKind(enum.IntEnum):
    REFUSED = 1
    """The rules do not allow it; asking again does not help."""
    UNREACHABLE = 2
    """The server was busy, or too slow; asking again, or another, may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    TAG: ClassVar[int] = 1
    id: int
    method: str
    timeout_ms: int
    """The server gives up after so long; 0 for a stream, which lasts until it ends or is cancelled."""
    params: bytes
    """Plain values in canonical msgpack; their meaning is the method's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    TAG: ClassVar[int] = 2
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    TAG: ClassVar[int] = 3
    id: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    TAG: ClassVar[int] = 4
    id: int
    result: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    TAG: ClassVar[int] = 5
    id: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    TAG: ClassVar[int] = 6
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    TAG: ClassVar[int] = 7
    id: int
    kind: FailureKind
    code: str
    message: str
    hint: str

    def error(self) -> FondacoError:
        """The error that the client's caller sees."""
        kind = Refused if self.kind is FailureKind.REFUSED else Unreachable
        return kind(self.code, self.message, hint=self.hint)


FromClient = Call | Cancel | Credit
FromServer = Reply | Item | End | Failure


def failure(request: int, error: Refused | Unreachable) -> Failure:
    """What tells the client of `error`; its texts are cut to what a message may hold."""
    kind = FailureKind.REFUSED if isinstance(error, Refused) else FailureKind.UNREACHABLE
    code, message, hint = (text[: limits.TEXT_BYTES // 4] for text in (error.code, error.message, error.hint))
    return Failure(id=request, kind=kind, code=code, message=message, hint=hint)


def pack_plain(value: codec.Plain) -> bytes:
    """Parameters, a result or an item as bytes. Raises `Refused` `rpc.too_large`."""
    packed = codec.pack(value)
    if len(packed) > limits.BLOB_BYTES:
        raise Refused("rpc.too_large", f"{len(packed)} bytes, at most {limits.BLOB_BYTES} in one message")
    return packed


def item_cost(value: bytes) -> int:
    """What sending an item of these bytes takes from the credit."""
    return len(value) + limits.RPC_ITEM_OVERHEAD_BYTES
