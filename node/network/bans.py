"""Who is not let in, and until when. libp2p has no gater for peer ids; this is ours.

A peer collects faults; `limits.PEER_FAULTS` of them within `limits.PEER_FAULT_MS` ban it for `limits.BAN_MS`.
One fault only costs the stream it came on: a bug of ours must not cut an honest network apart. Addresses can be
banned by hand only, for many honest peers may share one.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable

from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits

Subject = PeerId | str
"""A peer, or the text of a network such as `203.0.113.0/24`."""


def network_of(ip: str) -> str:
    """The /24, or for IPv6 the /48, that an address is counted and banned with."""
    address = ipaddress.ip_address(ip)
    return str(ipaddress.ip_network(f"{ip}/{24 if address.version == 4 else 48}", strict=False))


def _nothing(_subject: Subject, _life_ms: int, _reason: str) -> None:
    """The default where nobody keeps bans over a restart."""


class Bans:
    """The list, and the faults that lead there; times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.on_ban: Callable[[Subject, int, str], None] = _nothing
        """Told of every ban with its life in milliseconds and its reason; of one that was lifted with 0."""
        self._until: OrderedDict[Subject, tuple[float, str]] = OrderedDict()
        self._faults: OrderedDict[PeerId, deque[float]] = OrderedDict()

    def ban(self, subject: Subject, now: float, reason: str, *, life_ms: int = limits.BAN_MS) -> None:
        """Keep `subject` out for `life_ms`; the oldest ban goes where the list is full."""
        self._until[subject] = (now + life_ms / 1000, reason)
        self._until.move_to_end(subject)
        if len(self._until) > limits.BANS:
            self._until.popitem(last=False)
        self.on_ban(subject, life_ms, reason)

    def lift(self, subject: Subject) -> None:
        if self._until.pop(subject, None) is not None:
            self.on_ban(subject, 0, "")

    def why(self, subject: Subject, now: float) -> str | None:
        """The reason `subject` is kept out; None if it is not."""
        entry = self._until.get(subject)
        if entry is None:
            return None
        if now >= entry[0]:
            del self._until[subject]
            return None
        return entry[1]

    def fault(self, peer: PeerId, now: float, reason: str) -> bool:
        """Note a fault; whether it was the one too many, and `peer` is now banned."""
        faults = self._faults.setdefault(peer, deque(maxlen=limits.PEER_FAULTS))
        self._faults.move_to_end(peer)
        if len(self._faults) > limits.BANS:
            self._faults.popitem(last=False)
        faults.append(now)
        if len(faults) < limits.PEER_FAULTS or now - faults[0] > limits.PEER_FAULT_MS / 1000:
            return False
        del self._faults[peer]
        self.ban(peer, now, reason)
        return True
