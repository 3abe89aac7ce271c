"""Who is not let in, and until when. libp2p has no gater for peer ids; this is ours.

A peer collects faults; `limits.PEER_FAULTS` of them within `limits.PEER_FAULT_MS` ban it for `limits.BAN_MS`.
One fault only costs the stream it came on: a bug of ours must not cut an honest network apart. Addresses can be
banned by hand only, for many honest peers may share one.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from fondaco.node.network.peers import PeerId, public_key_of
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

Subject = PeerId | str
"""A peer, or the text of a network such as `203.0.113.0/24`."""
BY_FAULTS, BY_OPERATOR = "faults", "operator"


def network_of(ip: str) -> str:
    """The /24, or for IPv6 the /48, that an address is counted and banned with."""
    address = ipaddress.ip_address(ip)
    return str(ipaddress.ip_network(f"{ip}/{24 if address.version == 4 else 48}", strict=False))


def subject_of(text: str) -> Subject:
    """A peer id, a network, or the network of an address. Raises `Refused` `network.subject`."""
    wrong = Refused(
        "network.subject",
        f"{text[:80]!r} is no peer id and no network",
        hint="write 12D3KooW..., 203.0.113.0/24 or 2001:db8:1::/48",
    )
    ip, slash, _ = text.partition("/")
    if "." in ip or ":" in ip:
        try:
            network = network_of(ip)
            same = not slash or str(ipaddress.ip_network(text)) == network
        except ValueError:
            raise wrong from None
        if not same:
            raise wrong  # wider or narrower: what is banned is looked up by this size
        return network
    try:
        public_key_of(PeerId(text))
    except Refused:
        raise wrong from None
    return PeerId(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """One subject kept out."""

    subject: Subject
    since: float
    until: float
    reason: str
    by: str
    """`faults` of its own, or `operator`."""


def _nothing(_subject: Subject, _life_ms: int, _reason: str) -> None:
    """The default where nobody keeps bans over a restart."""


class Bans:
    """The list, and the faults that lead there; times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.on_ban: Callable[[Subject, int, str], None] = _nothing
        """Told of every ban with its life in milliseconds and its reason; of one that was lifted with 0."""
        self._until: OrderedDict[Subject, Ban] = OrderedDict()
        self._faults: OrderedDict[PeerId, deque[tuple[float, str]]] = OrderedDict()

    def __len__(self) -> int:
        """Those that are over and were not asked for since are among them."""
        return len(self._until)

    def ban(
        self, subject: Subject, now: float, reason: str, *, life_ms: int = limits.BAN_MS, by: str = BY_FAULTS
    ) -> Ban:
        """Keep `subject` out for `life_ms`; the oldest ban goes where the list is full."""
        made = Ban(subject=subject, since=now, until=now + life_ms / 1000, reason=reason, by=by)
        self._until[subject] = made
        self._until.move_to_end(subject)
        if len(self._until) > limits.BANS:
            self._until.popitem(last=False)
        self.on_ban(subject, life_ms, reason)
        return made

    def lift(self, subject: Subject) -> bool:
        """Whether it was banned."""
        found = self._until.pop(subject, None) is not None
        if found:
            self.on_ban(subject, 0, "")
        return found

    def why(self, subject: Subject, now: float) -> str | None:
        """The reason `subject` is kept out; None if it is not."""
        found = self.of(subject, now)
        return None if found is None else found.reason

    def of(self, subject: Subject, now: float) -> Ban | None:
        found = self._until.get(subject)
        if found is not None and now >= found.until:
            del self._until[subject]
            return None
        return found

    def listed(self, now: float) -> list[Ban]:
        """All that hold, the newest last."""
        return [found for found in self._until.values() if now < found.until]

    def faults(self, peer: PeerId) -> list[tuple[float, str]]:
        """When and what, the newest last: no more than would ban it, and none from before its last ban."""
        return list(self._faults.get(peer, ()))

    def fault(self, peer: PeerId, now: float, reason: str) -> bool:
        """Note a fault; whether it was the one too many, and `peer` is now banned."""
        faults = self._faults.setdefault(peer, deque(maxlen=limits.PEER_FAULTS))
        self._faults.move_to_end(peer)
        if len(self._faults) > limits.BANS:
            self._faults.popitem(last=False)
        faults.append((now, reason))
        if len(faults) < limits.PEER_FAULTS or now - faults[0][0] > limits.PEER_FAULT_MS / 1000:
            return False
        del self._faults[peer]
        self.ban(peer, now, reason)
        return True
