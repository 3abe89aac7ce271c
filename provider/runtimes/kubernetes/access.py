"""Where a cluster's API server is, and who asks it."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fondaco.protocol.errors import Refused

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account."""
TOKEN_BYTES = 64 * 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to speak to an API server; as what whom the token says."""

    server: str
    """`https://host:port`."""
    token_file: Path | None
    ca_file: Path | None

    def token(self) -> str:
        """Read each time it is needed: a cluster renews it.  Raises `Refused` `runtime.kubernetes`."""
        if self.token_file is None:
            return ""
        try:
            with self.token_file.open("rb") as file:
                return file.read(TOKEN_BYTES).decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise Refused("runtime.kubernetes", f"token {self.token_file}: {error}") from None

    def tls(self) -> ssl.SSLContext | None:
        """Whom to trust; None for a server on this machine that is spoken to without.

        Raises `Refused` `runtime.kubernetes`.
        """
        if self.server.startswith("http://"):
            return None
        try:
            return ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Refused("runtime.kubernetes", f"certificates of {self.ca_file}: {error}") from None


def access(server: str, token_file: Path | None, ca_file: Path | None) -> Access:
    """As configured; where no server is, that of the cluster whose pod this is.

    Raises `Refused` `runtime.kubernetes`.
    """
    if not server:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if host is None:
            raise Refused(
                "runtime.kubernetes",
                "no API server is configured, and this is no pod of a cluster",
                hint="set kubernetes_server, kubernetes_token_file and kubernetes_ca_file",
            )
        name = f"[{host}]" if ":" in host else host
        server = f"https://{name}:{port}"
        token_file, ca_file = token_file or ACCOUNT / "token", ca_file or ACCOUNT / "ca.crt"
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Refused("runtime.kubernetes", f"{server!r} is no address of an API server", hint="https://host:6443")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise Refused("runtime.kubernetes", f"{server} would see the token without TLS", hint="use https")
    return Access(server=server.rstrip("/"), token_file=token_file, ca_file=ca_file)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
