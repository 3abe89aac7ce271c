"""HTTP that a stranger may aim, and that reaches nothing the operator's network holds.

A tenant says which registry an image comes from, and the registry says where its tokens and blobs are. Every one
of these names is resolved here, and the connection goes to an address that was looked at: a name that resolves to
another one a moment later changes nothing. TLS and the `Host` header still go by the name.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from functools import cache

import certifi
import httpx
import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.provider.images.registries import Registries
from fondaco.provider.runtimes import bounds

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
ADDRESSES_TRIED = 4
DEFAULT_PORTS = {"https": 443, "http": 80}


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects to public addresses, and to private ones only of hosts that `registries` names."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        """One a name: two names at one address never share a connection that was verified for one of them."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises `Refused` `image.address`, `Unreachable` `image.unreachable`, and what httpx raises."""
        name = request.url.raw_host.decode("ascii")
        authority = request.url.netloc.decode("ascii")
        if request.url.scheme != "https" and not self._registries.plain(authority):
            raise Refused("image.address", f"{authority} is not on the list of registries without TLS")
        transport = self._transports.get(authority)
        if transport is None:
            transport = self._transports[authority] = httpx.AsyncHTTPTransport(verify=_trusted(), retries=0)
        port = DEFAULT_PORTS[request.url.scheme] if request.url.port is None else request.url.port
        if not 1 <= port <= 65_535:
            raise Refused("image.redirect", f"{authority} has no such port")
        addresses = await self._addresses(name, authority, port)
        failure: httpx.TransportError | None = None
        for address in addresses[:ADDRESSES_TRIED]:
            aimed = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": name.strip("[]")},
            )
            try:
                return await transport.handle_async_request(aimed)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None, "there is an address, or it was refused"
        raise failure

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()

    async def _addresses(self, name: str, authority: str, port: int) -> list[str]:
        try:
            with trio.fail_after(bounds.REGISTRY_CONNECT_S):
                found = await trio.socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable("image.unreachable", f"{name} is not to be found: {error}") from None
        except trio.TooSlowError:
            raise Unreachable("image.unreachable", f"nobody says in time where {name} is") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if authority not in self._registries.private:
            addresses = [address for address in addresses if is_public(address)]
        if not addresses:
            raise Refused(
                "image.address",
                f"{authority} has a private address",
                hint="its operator may list it under private_registries, if it is a registry to pull from",
            )
        return addresses


def is_public(text: str) -> bool:
    """Whether an address, and every one that is written inside it, belongs to the internet at large."""
    return all(_is_public(address) for address in _inside(ipaddress.ip_address(text.partition("%")[0])))


def _inside(address: Address) -> Iterator[Address]:
    """The address, or those it stands for: translators and tunnels lead from IPv6 to IPv4."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        yield from address.teredo or ()


def _is_public(address: Address) -> bool:
    if address.is_multicast or not address.is_global:
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in UNICAST


@cache
def _trusted() -> ssl.SSLContext:
    """Authorities of certifi and those of the system, which `SSL_CERT_FILE` may name."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context
