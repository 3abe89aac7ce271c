"""The `services` of an SDL file."""

from __future__ import annotations

from fondaco.protocol.manifest.model import Credentials, HttpOptions
from fondaco.protocol.sdl.decode import Decoder
from fondaco.protocol.sdl.document import ExposeEntry, Mount, Params, Place, ServiceEntry, To
from fondaco.protocol.sdl.nodes import Node, Sort
from fondaco.protocol.sdl.problems import Path

ABSENT = Node(0, 0)
"""Stands for a key that is not there: a null."""
_HTTP_SIZES = ("max_body_size", "read_timeout", "send_timeout", "next_tries", "next_timeout", "proxy_buffer_size")


def read_services(decoder: Decoder, node: Node, path: Path) -> dict[str, ServiceEntry]:
    return {name: _service(decoder, value, (*path, name)) for name, _, value in decoder.entries(node, path)}


def _service(decoder: Decoder, node: Node, path: Path) -> ServiceEntry:
    fields = decoder.fields(node, path)
    decoder.each(
        fields.get("dependencies", ABSENT),
        (*path, "dependencies"),
        lambda item, at: _dependency(decoder, item, at),
    )
    return ServiceEntry(
        at=Place(node, path),
        image=decoder.text(fields.get("image", ABSENT), (*path, "image")),
        command=decoder.texts(fields.get("command", ABSENT), (*path, "command")),
        args=decoder.texts(fields.get("args", ABSENT), (*path, "args")),
        env=decoder.texts(fields.get("env", ABSENT), (*path, "env")),
        expose=decoder.each(
            fields.get("expose", ABSENT), (*path, "expose"), lambda item, at: _expose(decoder, item, at)
        ),
        params=_params(decoder, fields.get("params", ABSENT), (*path, "params")),
        credentials=_credentials(decoder, fields.get("credentials", ABSENT), (*path, "credentials")),
    )


def _dependency(decoder: Decoder, node: Node, path: Path) -> str:
    return decoder.text(decoder.fields(node, path).get("service", ABSENT), (*path, "service"))


def _expose(decoder: Decoder, node: Node, path: Path) -> ExposeEntry:
    fields = decoder.fields(node, path)
    return ExposeEntry(
        at=Place(node, path),
        port=decoder.integer(fields.get("port", ABSENT), (*path, "port")),
        external_port=decoder.integer(fields.get("as", ABSENT), (*path, "as")),
        proto=decoder.text(fields.get("proto", ABSENT), (*path, "proto")),
        to=decoder.each(fields.get("to", ABSENT), (*path, "to"), lambda item, at: _to(decoder, item, at)),
        accept=decoder.texts(fields.get("accept", ABSENT), (*path, "accept")),
        http_options=_http_options(decoder, fields.get("http_options", ABSENT), (*path, "http_options")),
    )


def _to(decoder: Decoder, node: Node, path: Path) -> To:
    fields = decoder.fields(node, path)
    _http_options(decoder, fields.get("http_options", ABSENT), (*path, "http_options"))
    return To(
        at=Place(node, path),
        service=decoder.text(fields.get("service", ABSENT), (*path, "service")),
        is_global=decoder.boolean(fields.get("global", ABSENT), (*path, "global")),
        ip=decoder.text(fields.get("ip", ABSENT), (*path, "ip")),
    )


def _http_options(decoder: Decoder, node: Node, path: Path) -> HttpOptions:
    fields = decoder.fields(node, path)
    sizes = {name: decoder.integer(fields.get(name, ABSENT), (*path, name)) for name in _HTTP_SIZES}
    cases = decoder.texts(fields.get("next_cases", ABSENT), (*path, "next_cases"))
    return HttpOptions(**sizes, next_cases=cases or ())


def _params(decoder: Decoder, node: Node, path: Path) -> Params | None:
    if node.sort is Sort.NULL:
        return None
    fields = decoder.fields(node, path)
    at = (*path, "storage")
    storage = {}
    for name, _, value in decoder.entries(fields.get("storage", ABSENT), at):
        one = decoder.fields(value, (*at, name))
        storage[name] = Mount(
            at=Place(value, (*at, name)),
            mount=decoder.text(one.get("mount", ABSENT), (*at, name, "mount")),
            read_only=decoder.boolean(one.get("readOnly", ABSENT), (*at, name, "readOnly")),
        )
    permissions = fields.get("permissions", ABSENT)
    read: tuple[str, ...] | None = None
    if permissions.sort is not Sort.NULL:
        said = decoder.fields(permissions, (*path, "permissions"))
        read = decoder.texts(said.get("read", ABSENT), (*path, "permissions", "read")) or ()
    return Params(storage=storage, permissions=read, tee=decoder.text(fields.get("tee", ABSENT), (*path, "tee")))


def _credentials(decoder: Decoder, node: Node, path: Path) -> Credentials | None:
    if node.sort is Sort.NULL:
        return None
    fields = decoder.fields(node, path)
    names = ("host", "email", "username", "password")
    return Credentials(**{name: decoder.text(fields.get(name, ABSENT), (*path, name)) for name in names})
