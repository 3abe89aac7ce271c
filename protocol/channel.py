"""The direct channel between a tenant and its provider, `/fondaco/lease/1`: one stream, one call.

    caller                                            provider
    Hello(version, lease, caller, nonce)       ->
                                               <-     Challenge(provider, nonce, proof)
    Request(proof, method, params)             ->
                                               <-     Accepted | Failure(code, message, hint)
    Data, Credit, End, Failure                <->     Data, Credit, End, Failure

Noise binds both ends of the stream to their peer ids, but says nothing of who may touch a lease. So each side
signs a `ChannelBinding` with its registered key: the lease, both keys, both peer ids, both nonces, its own role
and, for the caller, what it asks. A proof shown to one provider is worth nothing at another (audience), on
another stream (nonces), through a man in the middle (peer ids) or turned round (role).

The caller is the lease's tenant; or, in version 2 of the hello, the holder of a token that the tenant signed
(capabilities.py). It then proves its own key, and shows the token with its request as a `TokenRequest`: only the
provider that it is for ever sees it.

After that each direction is data under credit: every data frame costs its bytes and an overhead, a side may send
while its credit is positive, and gives credit back as its application reads. So what may lie unread is bounded,
and the task that reads the stream never has to wait for the application. `End` closes one direction only.

The sessions here are sans-IO: `receive` takes one frame's payload and returns events, the other methods return
the payload of a frame to send. Faults of the peer raise `PeerFault` (drop the stream), denials `Refused` (answer
with `fail`, then end).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Any

from fondaco.protocol import codec, limits
from fondaco.protocol.capabilities import SignedCapability, identify
from fondaco.protocol.channel_events import (
    Called,
    Challenged,
    Credited,
    Ended,
    Event,
    Failed,
    Greeted,
    Opened,
    Received,
)
from fondaco.protocol.channel_frames import (
    DATA_BYTES,
    NO_REQUEST,
    TOKEN_VERSION,
    VERSION,
    Accepted,
    Challenge,
    ChannelBinding,
    Credit,
    Data,
    End,
    Failure,
    Frame,
    Hello,
    Request,
    Role,
    TokenRequest,
    failure,
    request_hash,
)
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import ChainId, Hash, LeaseId, PublicKey, Signature
from fondaco.protocol.signing import Signer, Verify, require, verify

PROTOCOL = "/fondaco/lease/1"


class State(enum.Enum):
    HELLO = enum.auto()
    CHALLENGE = enum.auto()
    REQUEST = enum.auto()
    ANSWER = enum.auto()
    OPEN = enum.auto()
    OVER = enum.auto()


_FRAME_LIMIT = {
    State.HELLO: limits.CHANNEL_HELLO_BYTES,
    State.CHALLENGE: limits.CHANNEL_HELLO_BYTES,
    State.REQUEST: limits.CHANNEL_REQUEST_BYTES,
    State.ANSWER: limits.CHANNEL_FRAME_BYTES,
    State.OPEN: limits.CHANNEL_FRAME_BYTES,
    State.OVER: limits.CHANNEL_FRAME_BYTES,
}


class _Session(ABC):
    """What both sides share: who they are, and the data once the call is open."""

    def __init__(
        self, chain: ChainId, signer: Signer, *, tenant_peer: str, provider_peer: str, nonce: Hash, check: Verify
    ) -> None:
        self.state = State.HELLO
        self._chain = chain
        self._signer = signer
        self._tenant_peer = tenant_peer
        self._provider_peer = provider_peer
        self._nonce = nonce
        self._check = check
        self._credit = limits.CHANNEL_WINDOW_BYTES
        self._granted = limits.CHANNEL_WINDOW_BYTES
        self._unreturned = 0
        self._sending = True
        self._receiving = True

    @property
    def may_send(self) -> bool:
        """Whether `data` may be called now."""
        return self.state is State.OPEN and self._sending and self._credit > 0

    @property
    def frame_limit(self) -> int:
        """The longest frame that the peer may send next, in bytes."""
        return _FRAME_LIMIT[self.state]

    def data(self, chunk: bytes) -> bytes:
        """Send at most `DATA_BYTES`; only while `may_send`."""
        assert self.may_send, "the call is not open, has ended this way, or has no credit"
        assert len(chunk) <= DATA_BYTES, "more than one frame carries"
        self._credit -= len(chunk) + limits.CHANNEL_ITEM_OVERHEAD_BYTES
        return codec.encode(Data(data=chunk))

    def consumed(self, data: bytes) -> bytes | None:
        """The application has taken what a `Received` held; a frame to send, once it is worth one."""
        self._unreturned += len(data) + limits.CHANNEL_ITEM_OVERHEAD_BYTES
        if self.state is not State.OPEN or not self._receiving:
            return None
        if 2 * self._unreturned < limits.CHANNEL_WINDOW_BYTES:
            return None
        size, self._unreturned = self._unreturned, 0
        self._granted += size
        return codec.encode(Credit(size=size))

    def end(self) -> bytes:
        """Send nothing more; what the peer sends still comes."""
        assert self.state is State.OPEN, "the call is not open"
        assert self._sending, "this direction has ended already"
        self._sending = False
        self._over_if_both_ended()
        return codec.encode(End())

    def fail(self, error: FondacoError) -> bytes:
        """End the call because of `error`."""
        self.state = State.OVER
        return codec.encode(failure(error))

    def receive(self, payload: bytes) -> tuple[Event, ...]:
        """Take one frame. Raises `PeerFault` for what no honest peer sends, and `Refused` for a failed proof."""
        if len(payload) > self.frame_limit:
            raise PeerFault("channel.frame", f"a frame of {len(payload)} bytes, at most {self.frame_limit} now")
        frame = codec.decode_union(payload, Frame, limit=limits.CHANNEL_REQUEST_BYTES)
        if isinstance(frame, Failure):
            if self.state is State.OVER:
                return ()
            self.state = State.OVER
            return (Failed(error=frame.error()),)
        if self.state is State.OPEN:
            return self._receive_open(frame)
        if self.state is State.OVER:
            return ()  # sent before it could know
        return self._receive_handshake(frame)

    @abstractmethod
    def _receive_handshake(self, frame: Any) -> tuple[Event, ...]:
        """Take a frame that comes before the call is open."""

    def _receive_open(self, frame: Any) -> tuple[Event, ...]:
        match frame:
            case Data(data=data) if self._receiving:
                if self._granted <= 0:
                    raise PeerFault("channel.window", "data was sent without credit for it")
                self._granted -= len(data) + limits.CHANNEL_ITEM_OVERHEAD_BYTES
                return (Received(data=data),)
            case Credit(size=size):
                if self._credit + size > limits.CHANNEL_WINDOW_BYTES:
                    raise PeerFault("channel.window", "more credit came back than was spent")
                self._credit += size
                return (Credited(),)
            case End() if self._receiving:
                self._receiving = False
                self._over_if_both_ended()
                return (Ended(),)
        raise self._out_of_order(frame)

    def _over_if_both_ended(self) -> None:
        if not self._sending and not self._receiving:
            self.state = State.OVER

    def _out_of_order(self, frame: object) -> PeerFault:
        state = self.state.name.lower()
        return PeerFault("channel.sequence", f"a {type(frame).__name__} makes no sense here ({state})")

    def _binding(
        self, hello: Hello, provider: PublicKey, nonce: Hash, role: Role, request: Hash
    ) -> ChannelBinding:
        return ChannelBinding(
            lease=hello.lease,
            caller=hello.caller,
            provider=provider,
            tenant_peer=self._tenant_peer,
            provider_peer=self._provider_peer,
            tenant_nonce=hello.nonce,
            provider_nonce=nonce,
            role=role,
            request=request,
        )

    def _require(self, binding: ChannelBinding, key: PublicKey, proof: Signature) -> None:
        try:
            require(self._chain, binding, key, proof, check=self._check)
        except PeerFault:
            # An honest peer with an old record of us fails here too: tell it, and do not score it down.
            who = "caller" if binding.role is Role.TENANT else "provider"
            raise Refused(
                "channel.proof", f"the {who}'s proof does not hold for this lease, these peers and this stream"
            ) from None


class ClientSession(_Session):
    """The caller's side: the tenant's, or with a token its holder's."""

    def __init__(
        self,
        chain: ChainId,
        signer: Signer,
        *,
        lease: LeaseId,
        provider: PublicKey,
        tenant_peer: str,
        provider_peer: str,
        nonce: Hash,
        token: SignedCapability | None = None,
        check: Verify = verify,
    ) -> None:
        super().__init__(
            chain, signer, tenant_peer=tenant_peer, provider_peer=provider_peer, nonce=nonce, check=check
        )
        self._provider = provider
        self._token = token
        version = VERSION if token is None else TOKEN_VERSION
        self._hello = Hello(version=version, lease=lease, caller=signer.public_key, nonce=nonce)
        self._provider_nonce: Hash | None = None

    def hello(self) -> bytes:
        """The first frame."""
        assert self.state is State.HELLO, "a hello is said once"
        self.state = State.CHALLENGE
        return codec.encode(self._hello)

    def request(self, method: str, params: bytes) -> bytes:
        """Ask for `method`, after `Challenged`."""
        assert self.state is State.REQUEST, "the provider has not proven itself"
        assert self._provider_nonce is not None, "a challenge has a nonce"
        asked = request_hash(method, params, self._token)
        binding = self._binding(self._hello, self._provider, self._provider_nonce, Role.TENANT, asked)
        proof = self._signer.sign(self._chain, binding)
        self.state = State.ANSWER
        if self._token is None:
            return codec.encode(Request(proof=proof, method=method, params=params))
        return codec.encode(TokenRequest(proof=proof, method=method, params=params, token=self._token))

    def _receive_handshake(self, frame: Any) -> tuple[Event, ...]:
        match self.state, frame:
            case State.CHALLENGE, Challenge():
                if frame.provider != self._provider:
                    raise Refused("channel.provider", "another provider answers than the lease names")
                if frame.nonce == self._nonce:
                    raise Refused("channel.nonce", "the provider gave our own nonce back")
                binding = self._binding(self._hello, self._provider, frame.nonce, Role.PROVIDER, NO_REQUEST)
                self._require(binding, self._provider, frame.proof)
                self._provider_nonce = frame.nonce
                self.state = State.REQUEST
                return (Challenged(),)
            case State.ANSWER, Accepted():
                self.state = State.OPEN
                return (Opened(),)
        raise self._out_of_order(frame)


class ServerSession(_Session):
    """The provider's side."""

    def __init__(
        self,
        chain: ChainId,
        signer: Signer,
        *,
        tenant_peer: str,
        provider_peer: str,
        nonce: Hash,
        seen: SeenNonces,
        check: Verify = verify,
    ) -> None:
        super().__init__(
            chain, signer, tenant_peer=tenant_peer, provider_peer=provider_peer, nonce=nonce, check=check
        )
        self._seen = seen
        self._hello: Hello | None = None
        self._lease: Lease | None = None

    def challenge(self, lease: Lease | None) -> bytes:
        """Answer a hello, given the ledger's record of the lease it names.

        Raises `Refused` `lease.unknown`, `lease.provider`, `lease.tenant` or `channel.nonce`.
        """
        hello = self._hello
        assert self.state is State.CHALLENGE, "nobody has said hello, or it was answered"
        assert hello is not None, "a greeting came by a hello"
        if lease is None:
            raise Refused("lease.unknown", f"there is no lease {hello.lease.hex()}")
        if lease.provider != self._signer.public_key:
            raise Refused("lease.provider", "that lease is served by another provider")
        if hello.version == VERSION and lease.tenant != hello.caller:
            raise Refused("lease.tenant", "that lease is another tenant's")
        if hello.nonce == self._nonce:
            raise Refused("channel.nonce", "the nonce is our own")
        self._seen.check(hello.caller, hello.nonce)
        binding = self._binding(hello, self._signer.public_key, self._nonce, Role.PROVIDER, NO_REQUEST)
        self._lease = lease
        self.state = State.REQUEST
        proof = self._signer.sign(self._chain, binding)
        return codec.encode(Challenge(provider=self._signer.public_key, nonce=self._nonce, proof=proof))

    def accept(self) -> bytes:
        """Take the call on."""
        assert self.state is State.ANSWER, "nothing was asked"
        self.state = State.OPEN
        return codec.encode(Accepted())

    def _receive_handshake(self, frame: Any) -> tuple[Event, ...]:
        match self.state, frame:
            case State.HELLO, Hello():
                if frame.version not in (VERSION, TOKEN_VERSION):
                    most = f"we speak {VERSION} and {TOKEN_VERSION}"
                    raise Refused("channel.version", f"the caller speaks version {frame.version}, {most}")
                self._hello = frame
                self.state = State.CHALLENGE
                return (Greeted(lease=frame.lease, caller=frame.caller),)
            case State.REQUEST, Request() if self._version == VERSION:
                return self._called(frame, None)
            case State.REQUEST, TokenRequest() if self._version == TOKEN_VERSION:
                return self._called(frame, frame.token)
        raise self._out_of_order(frame)

    @property
    def _version(self) -> int:
        assert self._hello is not None, "a request follows a hello"
        return self._hello.version

    def _called(self, frame: Request | TokenRequest, token: SignedCapability | None) -> tuple[Event, ...]:
        hello, lease = self._hello, self._lease
        assert hello is not None, "a request follows a hello"
        assert lease is not None, "and the challenge that answered it"
        asked, own = request_hash(frame.method, frame.params, token), self._signer.public_key
        self._require(self._binding(hello, own, self._nonce, Role.TENANT, asked), hello.caller, frame.proof)
        if token is not None:
            identify(self._chain, token, lease=lease, audience=own, holder=hello.caller, check=self._check)
        self._seen.check(hello.caller, hello.nonce)
        self._seen.add(hello.caller, hello.nonce)
        self.state = State.ANSWER
        capability = None if token is None else token.capability
        return (Called(method=frame.method, params=frame.params, capability=capability),)
