"""Where an operator lets images come from, how their registries are spoken to, and as whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import HUB, Reference, registry_host

HUB_API = "registry-1.docker.io"
"""Where Docker Hub's registry answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """As whom a registry is asked, and nobody but that registry and the token server it names."""

    host: str
    """As `registry_host` gives it."""
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """An operator's word on registries; the default: any that is public, by HTTPS.

    Entries of `allow` and `deny` are `host`, `host:port`, `host/path` with all below it, `*.domain` or `*`.
    """

    allow: tuple[str, ...] = ()
    """Only these; empty: all."""
    deny: tuple[str, ...] = ()
    """Not these; it goes before `allow`."""
    private: frozenset[str] = frozenset()
    """Hosts that may have private addresses."""
    insecure: frozenset[str] = frozenset()
    """Hosts spoken to by HTTP, without TLS."""
    logins: Mapping[str, Login] = field(default_factory=dict, repr=False)
    """The operator's own, by host: every tenant may pull what they open."""

    def admit(self, reference: Reference) -> None:
        """Raises `Refused` `image.registry` for an image that the operator does not let in."""
        denied = any(_matches(entry, reference) for entry in self.deny)
        allowed = not self.allow or any(_matches(entry, reference) for entry in self.allow)
        if denied or not allowed:
            raise Refused(
                "image.registry",
                f"this provider takes no images from {reference.name}",
                hint=f"it takes them from {', '.join(self.allow)}" if not allowed else "use another registry",
            )

    def base_url(self, reference: Reference) -> str:
        """Of the API of its registry."""
        host = HUB_API if reference.host == HUB else reference.host
        return f"{'http' if self.plain(reference.host) else 'https'}://{host}"

    def plain(self, host: str) -> bool:
        """Whether `host` may be spoken to without TLS: what is on this machine, and what the operator says."""
        return host in self.insecure or _is_loopback(host)

    def login_for(self, reference: Reference, given: Login | None) -> Login | None:
        """The tenant's own if it is for this registry, else the operator's."""
        if given is not None and given.host == reference.host:
            return given
        return self.logins.get(reference.host)


def check_entry(entry: str) -> None:
    """Raises `Refused` `image.reference` for what `Registries.allow` and `deny` cannot mean."""
    if entry != "*":
        registry_host(entry.removeprefix("*.").partition("/")[0])


def _matches(entry: str, reference: Reference) -> bool:
    if entry == "*":
        return True
    if entry.startswith("*."):
        return _without_port(reference.host).endswith(entry[1:].lower())
    host, slash, path = entry.partition("/")
    whole = registry_host(host) + slash + path.rstrip("/")
    return f"{reference.name}/".startswith(f"{whole.rstrip('/')}/")


def _is_loopback(host: str) -> bool:
    name = _without_port(host)
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
