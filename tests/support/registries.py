"""Registries for tests: Debian's own on loopback, and one of ours that misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.made_images import MadeImage, digest_of

from fondaco.node.loopback import HOST, free_port
from fondaco.provider.images.registries import Login, Registries

if sys.version_info >= (3, 14):
    pass
else:
    pass

USER, PASSWORD = "tester", "open sesame"
HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
"""Bcrypt of `PASSWORD`, the one kind that docker-registry reads."""
START_S = 20.0


# --- Debian's registry


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerRegistry:
    """A running `docker-registry`."""

    host: str
    folder: Path
    process: subprocess.Popen[str]
    auth: tuple[str, str] | None = None

    def push(self, image: MadeImage, name: str, tag: str) -> str:
        """By the distribution API, as any builder does; the reference it then has."""
        with httpx.Client(base_url=f"http://{self.host}/v2/{name}/", auth=self.auth, trust_env=False) as client:
            for digest, data in image.blobs.items():
                upload = client.post("blobs/uploads/").raise_for_status().headers["location"]
                where = httpx.URL(upload).copy_merge_params({"digest": digest})
                client.put(where, content=data).raise_for_status()
            for digest, (media_type, content) in image.documents.items():
                for named in {digest} | ({tag} if digest == image.digest else set()):
                    answer = client.put(
                        f"manifests/{named}", content=content, headers={"Content-Type": media_type}
                    )
                    answer.raise_for_status()
        return f"{self.host}/{name}:{tag}"

    def asked(self) -> str:
        """Its log of requests so far."""
        return (self.folder / "log").read_text()


def need(program: str) -> str:
    """Its path; else the test is skipped, and in CI it fails: a suite that skips quietly shows nothing."""
    found = shutil.which(program)
    if found is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say(f"there is no {program} on the PATH: Debian has it in a package of that name")
    return found


@contextlib.contextmanager
def docker_registry(folder: Path, *, htpasswd: bool = False) -> Iterator[DockerRegistry]:
    """Serve from `folder` until the block ends; with `htpasswd` to `USER` only."""
    program, host = need("docker-registry"), f"{HOST}:{free_port()}"
    folder.mkdir(exist_ok=True)
    (folder / "htpasswd").write_text(HTPASSWD)
    access = f"auth: {{htpasswd: {{realm: here, path: {folder / 'htpasswd'}}}}}" if htpasswd else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: info, formatter: text}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{host}'}}\n{access}\n"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=log, stderr=subprocess.STDOUT, text=True
        )
    try:
        _wait_listening(folder / "log", process)
        yield DockerRegistry(
            host=host, folder=folder, process=process, auth=(USER, PASSWORD) if htpasswd else None
        )
    finally:
        process.kill()
        process.wait()


def _wait_listening(log: Path, process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        for _ in range(int(START_S / 0.02)):
            if "listening on" in log.read_text():
                return
            process.wait(0.02)
    while "listening on" not in log.read_text():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"docker-registry ended: {log.read_text()[-2_000:]}")


# --- One that misbehaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What `Content-Length` says, where it is not the truth; -1 says nothing."""
    endless: bool = False
    """Send the body again and again."""
    pause_s: float = 0.0
    """Before the body."""
    drips_s: float = 0.0
    """Send the body again and again, with such pauses."""
    stalls: bool = False
    """Send the body and then nothing more, without closing."""


Rule = Callable[[Asked], Answer | None]


class StrangeRegistry:
    """Serves images honestly, but for what `rules` answer first.  Not a real registry: nothing can be pushed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"{HOST}:{port}"
        self.asked: list[Asked] = []
        self.rules: list[Rule] = []
        self.most_at_once = 0
        """Bodies asked for at the same time, but for what stalls or never ends."""
        self._at_once = 0
        self._paths: dict[str, tuple[str, bytes]] = {}

    def add(self, image: MadeImage, name: str = "team/app", tag: str = "1") -> str:
        """The reference it then has."""
        for digest, (media_type, content) in image.documents.items():
            self._paths[f"/v2/{name}/manifests/{digest}"] = media_type, content
            if digest == image.digest:
                self._paths[f"/v2/{name}/manifests/{tag}"] = media_type, content
        for digest, content in image.blobs.items():
            self._paths[f"/v2/{name}/blobs/{digest}"] = "application/octet-stream", content
        return f"{self.host}/{name}:{tag}"

    def when(self, part: str, *answers: Answer | Rule, times: int | None = None) -> None:
        """Answer GETs of paths that hold `part` in this way: one after the other, the last one again and again."""
        left = list(answers)
        count = 0

        def rule(asked: Asked) -> Answer | None:
            nonlocal count
            if part not in asked.path or asked.method != "GET" or (times is not None and count >= times):
                return None
            count += 1
            answer = left.pop(0) if len(left) > 1 else left[0]
            return answer(asked) if callable(answer) else answer

        self.rules.append(rule)

    def count(self, part: str, method: str = "GET") -> int:
        return sum(part in asked.path and asked.method == method for asked in self.asked)

    def honest(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        if path not in self._paths:
            return Answer(status=404)
        media_type, content = self._paths[path]
        headers = {"Content-Type": media_type}
        if "/manifests/" in path:
            headers["Docker-Content-Digest"] = digest_of(content)
        wanted = asked.headers.get("range", "")
        if wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Answer(status=206, headers=headers, body=content[start:])
        return Answer(headers=headers, body=content)

    async def serve(self, stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = await stream.receive_some()
                if not data:
                    return
                head += data
            request, *lines = head.decode().split("\r\n\r\n")[0].split("\r\n")
            method, path, _ = request.split(" ")
            pairs = (line.partition(":") for line in lines)
            asked = Asked(
                method=method, path=path, headers={name.lower(): text.strip() for name, _, text in pairs}
            )
            self.asked.append(asked)
            answer = next((said for rule in self.rules if (said := rule(asked)) is not None), None)
            await self._give(stream, asked, self.honest(asked) if answer is None else answer)

    async def _give(self, stream: trio.abc.Stream, asked: Asked, answer: Answer) -> None:
        length = len(answer.body) if answer.length is None else answer.length
        headers = {"Connection": "close", **answer.headers}
        if length >= 0:
            headers["Content-Length"] = str(length)
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in headers.items())]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        if asked.method == "HEAD":
            return
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await trio.sleep(answer.pause_s)
        self._at_once -= 1
        await stream.send_all(answer.body)
        while answer.endless or answer.drips_s:
            await trio.sleep(answer.drips_s)
            await stream.send_all(answer.body)
        if answer.stalls:
            await trio.sleep_forever()


@contextlib.asynccontextmanager
async def strange_registry(tls: ssl.SSLContext | None = None) -> AsyncIterator[StrangeRegistry]:
    """On loopback until the block ends."""
    registry = StrangeRegistry(free_port())

    async def serve(tcp: trio.SocketStream) -> None:
        stream: trio.abc.Stream = tcp if tls is None else trio.SSLStream(tcp, tls, server_side=True)
        with contextlib.suppress(trio.BrokenResourceError):
            await registry.serve(stream)
            await stream.aclose()
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: trio.serve_tcp(serve, registry.port, host=HOST, task_status=task_status)
        )
        yield registry
        nursery.cancel_scope.cancel()


class Names(trio.abc.HostnameResolver):
    """Says where hosts are: each name's addresses by turns, the last ones again and again."""

    def __init__(self, **names: Sequence[tuple[str, ...]]) -> None:
        self._names = {name.replace("_", "."): list(turns) for name, turns in names.items()}

    async def getaddrinfo(self, host: Any, port: Any, *_: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        turns = self._names.get(name)
        if turns is None:
            return await trio.to_thread.run_sync(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


@contextlib.contextmanager
def named(**names: Sequence[tuple[str, ...]]) -> Iterator[None]:
    """Resolve these names (`_` stands for a dot) in this way while the block lasts."""
    before = trio.socket.set_custom_hostname_resolver(Names(**names))
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)


def certificate_for(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server of that name, and for a client that trusts it and nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        server.load_cert_chain(file.name)
    return server, ssl.create_default_context(cadata=pem.decode())


def trusting(*hosts: str, **changes: Any) -> Registries:
    """An operator who lets these hosts be on this machine."""
    return replace(Registries(private=frozenset(hosts)), **changes)


def login(host: str, username: str = USER, password: str = PASSWORD) -> Login:
    return Login(host=host, username=username, password=password)
