"""Two services that live a whole life: a network, a registry, and what a tenant asks from inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from tests.support.made_images import image_in
from tests.support.networks import network
from tests.support.registries import DockerRegistry, docker_registry

from fondaco.node import image, testnet
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import LeaseHandle
from fondaco.protocol.errors import FondacoError

PATIENCE_S = 30
WEB = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = os.environ["VERSION"].encode()
        if self.path == "/db":
            with socket.create_connection(("db", 5432), 5) as there:
                said = there.makefile("rb").readline()
        if self.path == "/eat":
            said = bytearray(os.urandom(1 << 28))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said)
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "web", 8080
server = Server(("0.0.0.0", 8080), Handler)
print("web", os.environ["VERSION"], flush=True)
server.serve_forever()
"""
DB = """
import socket
with socket.create_server(("0.0.0.0", 5432)) as listener:
    print("db", flush=True)
    while True:
        peer, _ = listener.accept()
        peer.sendall(b"rows\\n")
        peer.close()
"""
SDL = """
version: "2.0"
services:
  web:
    image: {image}
    command: ["/usr/bin/python3", "-u", "-c"]
    args:
      - |
{web}
    env: ["VERSION={version}"]
    expose:
      - port: 8080
        as: 80
        to:
          - global: true
    params:
      storage:
        data:
          mount: /data
  db:
    image: {image}
    command: ["/usr/bin/python3", "-u", "-c"]
    args:
      - |
{db}
    expose:
      - port: 5432
        to:
          - service: web
profiles:
  compute:
    web:
      resources:
        cpu: {{units: 0.5}}
        memory: {{size: 96Mi}}
        storage:
          - size: 64Mi
          - name: data
            size: 16Mi
            attributes: {{persistent: true, class: beta2}}
    db:
      resources: {{cpu: {{units: 0.5}}, memory: {{size: 64Mi}}, storage: {{size: 16Mi}}}}
  placement:
    anywhere:
      pricing:
        web: {{denom: uact, amount: 100}}
        db: {{denom: uact, amount: 100}}
deployment:
  web:
    anywhere: {{profile: web, count: 1}}
  db:
    anywhere: {{profile: db, count: 1}}
"""
MACHINES = """
[[provider.machines]]
name = "this"
cpu_milli = 4000
memory_bytes = 4294967296
storage_bytes = 4294967296
storage_classes = { beta2 = 1073741824 }
"""


@dataclass
class Life:
    """A network with one provider, a tenant, and an image in a registry."""

    home: Path
    tenant: Tenant
    registry: DockerRegistry
    reference: str

    def sdl(self, version: str) -> bytes:
        web, db = ("\n".join(" " * 8 + line for line in text.strip().splitlines()) for text in (WEB, DB))
        return SDL.format(image=self.reference, version=version, web=web, db=db).encode()

    @property
    def provider(self) -> Path:
        """The folder of its node."""
        return self.home / "nodes" / "provider-0"


@asynccontextmanager
async def life(folder: Path, *settings: str) -> AsyncIterator[Life]:
    """`settings`: lines for the provider's configuration."""
    image.build_demo_image(folder / "layout")
    home = folder / "net"
    with docker_registry(folder / "registry") as registry:
        reference = registry.push(image_in(folder / "layout"), "team/app", "1")
        testnet.create(home, validators=1, providers=1)
        configure(
            home / "nodes" / "provider-0" / "node.toml", f'private_registries = ["{registry.host}"]', *settings
        )
        async with network(home) as _, Tenant.connect(home) as tenant:
            yield Life(home, tenant, registry, reference)


def configure(path: Path, *settings: str) -> None:
    """Set these keys of the provider, whose machine gets volumes of a class."""
    settings = (*settings, "price_storage_class = { beta2 = 100 }")
    keys = {line.partition(" = ")[0] for line in settings} | {"machines"}
    lines = [line for line in path.read_text().splitlines() if line.partition(" = ")[0] not in keys]
    path.write_text("\n".join([*lines, *settings, MACHINES]))


async def python(lease: LeaseHandle, code: str, service: str = "web") -> tuple[int | None, str]:
    """Run it inside; its exit code, and what it printed."""
    said = b""
    async with lease.exec(["/usr/bin/python3", "-c", code], service=service) as command:
        await command.end_input()
        async for output in command:
            said += output.data
    return command.exit_code, said.decode().strip()


async def get(lease: LeaseHandle, path: str) -> str:
    """As soon as it answers."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return (await lease.request(path))[1].decode()
            except FondacoError:
                await trio.sleep(0.1)
