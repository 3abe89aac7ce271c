"""The canonical JSON of a manifest, byte for byte what Akash hashes, and the way back.

Canonical: keys sorted, no blanks, non-ASCII text raw, and `< > &`, U+2028, U+2029 escaped as Go's encoder
does.  Resource quantities are decimal strings.  `parse` takes bytes from a peer: it bounds them, accepts no other
spelling of the same manifest, and raises `Malformed` on anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.manifest.model import (
    Credentials,
    Expose,
    HttpOptions,
    Manifest,
    ManifestGroup,
    Permissions,
    Service,
    ServiceParams,
    Tee,
    VolumeMount,
)
from fondaco.protocol.resources import Attribute, Endpoint, EndpointKind, Resources, Volume
from fondaco.protocol.scalars import INT_MAX, BlindingSalt, Hash
from fondaco.protocol.signing import sha256

T = TypeVar("T")
Json = Any
"""What `json` knows: None, bool, int, str, list, dict."""

COMMITMENT_TAG = b"fondaco/manifest-group/1"
_GO_ESCAPES = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})
_UINT32 = 2**32 - 1


# --- Writing -------------------------------------------------------------------------------------------------


def canonical(plain: Json, *, escape: bool = True) -> bytes:
    """The canonical bytes of plain JSON values; `escape` as Go's encoder does for HTML's sake."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return (text.translate(_GO_ESCAPES) if escape else text).encode()


def to_json(manifest: Manifest) -> bytes:
    return canonical([group_plain(group) for group in manifest])


def group_to_json(group: ManifestGroup) -> bytes:
    return canonical(group_plain(group))


def version_hash(manifest: Manifest) -> Hash:
    """Akash's deployment version.  It is shown to people; agreements use `commitment`, which is blinded."""
    return sha256(to_json(manifest))


def commitment(salt: BlindingSalt, group: ManifestGroup) -> Hash:
    """What an order says of a group's manifest: nobody can search for it without the salt."""
    return sha256(COMMITMENT_TAG + salt + group_to_json(group))


def service_hash(service: Service) -> Hash:
    """Of what a manifest says of one service: it changes when another version says something else."""
    return sha256(canonical(_service(service)))


def group_plain(group: ManifestGroup) -> Json:
    return {"name": group.name, "services": [_service(service) for service in group.services]}


def resources_plain(unit_id: int, resources: Resources) -> Json:
    """A resource unit without its count, as manifests and group specifications both write it."""
    return {
        "id": unit_id,
        "cpu": _with_attributes({"units": _value(resources.cpu_milli)}, resources.cpu_attributes),
        "memory": _with_attributes({"size": _value(resources.memory_bytes)}, resources.memory_attributes),
        "storage": [
            _with_attributes({"name": volume.name, "size": _value(volume.size_bytes)}, volume.attributes)
            for volume in resources.volumes
        ],
        "gpu": _with_attributes({"units": _value(resources.gpu_units)}, resources.gpu_attributes),
        "endpoints": [
            {"kind": int(endpoint.kind), "sequence_number": endpoint.sequence_number}
            if endpoint.kind
            else {"sequence_number": endpoint.sequence_number}
            for endpoint in resources.endpoints
        ],
    }


def attributes_plain(attributes: tuple[Attribute, ...]) -> Json:
    return [
        {"key": attribute.key, "value": attribute.value} if attribute.value else {"key": attribute.key}
        for attribute in attributes
    ]


def _value(quantity: int) -> Json:
    return {"val": str(quantity)}


def _with_attributes(plain: dict[str, Json], attributes: tuple[Attribute, ...]) -> Json:
    if attributes:
        plain["attributes"] = attributes_plain(attributes)
    return plain


def _service(service: Service) -> Json:
    credentials = service.credentials
    plain = {
        "name": service.name,
        "image": service.image,
        "command": service.command,
        "args": service.args,
        "env": service.env,
        "resources": resources_plain(service.resource_id, service.resources),
        "count": service.count,
        "expose": [_expose(expose) for expose in service.expose],
        "credentials": credentials
        and {
            "host": credentials.host,
            "email": credentials.email,
            "username": credentials.username,
            "password": credentials.password,
        },
    }
    if service.params is not None:
        plain["params"] = _params(service.params)
    return plain


def _params(params: ServiceParams) -> Json:
    plain: dict[str, Json] = {
        "storage": params.storage
        and [{"name": one.name, "mount": one.mount, "readOnly": one.read_only} for one in params.storage]
    }
    if params.permissions is not None:
        plain["permissions"] = {"read": params.permissions.read} if params.permissions.read else {}
    if params.tee is not None:
        plain["tee"] = {"type": params.tee.kind, "attestation": params.tee.attestation}
    return plain


def _expose(expose: Expose) -> Json:
    options = expose.http_options
    http: dict[str, Json] = {
        "maxBodySize": options.max_body_size,
        "readTimeout": options.read_timeout,
        "sendTimeout": options.send_timeout,
        "nextTries": options.next_tries,
        "nextTimeout": options.next_timeout,
    }
    if options.next_cases:
        http["nextCases"] = options.next_cases
    if options.proxy_buffer_size:
        http["proxyBufferSize"] = options.proxy_buffer_size
    return {
        "port": expose.port,
        "externalPort": expose.external_port,
        "proto": expose.proto,
        "service": expose.service,
        "global": expose.is_global,
        "hosts": expose.hosts,
        "httpOptions": http,
        "ip": expose.ip,
        "endpointSequenceNumber": expose.endpoint_sequence_number,
    }


# --- Reading -------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Manifest:
    """Read a whole manifest.  Raises `Malformed`: `manifest.size`, `.malformed` or `.not_canonical`."""
    manifest = _many(_loads(data), _read_group, "groups")
    _require_canonical(data, to_json, manifest)
    return manifest


def parse_group(data: bytes) -> ManifestGroup:
    """Read one group, which is all a provider is given.  Raises as `parse` does."""
    group = _read_group(_loads(data))
    _require_canonical(data, group_to_json, group)
    return group


def _require_canonical(data: bytes, write: Callable[[T], bytes], value: T) -> None:
    try:
        again = write(value)
    except UnicodeEncodeError:
        _malformed("text with a lone surrogate")
    if again != data:
        raise Malformed(
            "manifest.not_canonical", "these bytes are not the canonical form of the manifest they say"
        )


def _malformed(what: str) -> NoReturn:
    raise Malformed("manifest.malformed", what)


def _loads(data: bytes) -> Json:
    if len(data) > limits.MANIFEST_BYTES:
        raise Malformed("manifest.size", f"{len(data)} bytes, at most {limits.MANIFEST_BYTES} allowed")
    try:
        return json.loads(data.decode(), parse_float=_malformed, parse_constant=_malformed)
    except (ValueError, RecursionError) as error:
        _malformed(f"not JSON: {type(error).__name__}")


def _fields(value: Json, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Json]:
    if type(value) is not dict:
        _malformed(f"wanted an object with {required[0]!r}, found {type(value).__name__}")
    missing = [name for name in required if name not in value]
    unknown = [name for name in value if name not in required and name not in optional]
    if missing or unknown:
        _malformed(f"an object lacks {missing} or has the unknown {unknown[:3]}")
    return value


def _many(value: Json, item: Callable[[Json], T], what: str) -> tuple[T, ...]:
    if type(value) is not list:
        _malformed(f"{what}: wanted a list, found {type(value).__name__}")
    if len(value) > limits.MANIFEST_LIST_ITEMS:
        _malformed(f"{what}: {len(value)} items, at most {limits.MANIFEST_LIST_ITEMS} allowed")
    return tuple([item(one) for one in value])


def _text(value: Json) -> str:
    if type(value) is not str:
        _malformed(f"wanted text, found {type(value).__name__}")
    return value


def _boolean(value: Json) -> bool:
    if type(value) is not bool:
        _malformed(f"wanted true or false, found {type(value).__name__}")
    return value


def _number(value: Json) -> int:
    if type(value) is not int or not 0 <= value <= _UINT32:
        _malformed(f"wanted an integer 0..{_UINT32}")
    return value


def _quantity(value: Json) -> int:
    text = _text(_fields(value, ("val",))["val"])
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= INT_MAX):
        _malformed("wanted a quantity as a decimal string")
    return int(text)


def _texts(value: Json) -> tuple[str, ...]:
    return _many(value, _text, "texts")


def _optional(value: Json, read: Callable[[Json], T]) -> T | None:
    return None if value is None else read(value)


def _read_group(value: Json) -> ManifestGroup:
    fields = _fields(value, ("name", "services"))
    return ManifestGroup(name=_text(fields["name"]), services=_many(fields["services"], _read_service, "services"))


def _read_service(value: Json) -> Service:
    required = ("name", "image", "command", "args", "env", "resources", "count", "expose", "credentials")
    fields = _fields(value, required, ("params",))
    resources = _fields(fields["resources"], ("id", "cpu", "memory", "storage", "gpu", "endpoints"))
    return Service(
        name=_text(fields["name"]),
        image=_text(fields["image"]),
        command=_optional(fields["command"], _texts),
        args=_optional(fields["args"], _texts),
        env=_optional(fields["env"], _texts),
        resource_id=_number(resources["id"]),
        resources=_read_resources(resources),
        count=_number(fields["count"]),
        expose=_many(fields["expose"], _read_expose, "expose"),
        params=_optional(fields.get("params"), _read_params),
        credentials=_optional(fields["credentials"], _read_credentials),
    )


def _read_resources(fields: dict[str, Json]) -> Resources:
    cpu, memory, gpu = (
        _fields(fields[name], (size,), ("attributes",))
        for name, size in (("cpu", "units"), ("memory", "size"), ("gpu", "units"))
    )
    return Resources(
        cpu_milli=_quantity(cpu["units"]),
        cpu_attributes=_read_attributes(cpu),
        memory_bytes=_quantity(memory["size"]),
        memory_attributes=_read_attributes(memory),
        gpu_units=_quantity(gpu["units"]),
        gpu_attributes=_read_attributes(gpu),
        volumes=_many(fields["storage"], _read_volume, "storage"),
        endpoints=_many(fields["endpoints"], _read_endpoint, "endpoints"),
    )


def _read_attributes(fields: dict[str, Json]) -> tuple[Attribute, ...]:
    return _many(fields.get("attributes", []), _read_attribute, "attributes")


def _read_attribute(value: Json) -> Attribute:
    fields = _fields(value, ("key",), ("value",))
    return Attribute(key=_text(fields["key"]), value=_text(fields.get("value", "")))


def _read_volume(value: Json) -> Volume:
    fields = _fields(value, ("name", "size"), ("attributes",))
    return Volume(
        name=_text(fields["name"]), size_bytes=_quantity(fields["size"]), attributes=_read_attributes(fields)
    )


def _read_endpoint(value: Json) -> Endpoint:
    fields = _fields(value, ("sequence_number",), ("kind",))
    kind = _number(fields.get("kind", 0))
    if kind > max(EndpointKind):
        _malformed(f"endpoint kind {kind} is unknown")
    return Endpoint(kind=EndpointKind(kind), sequence_number=_number(fields["sequence_number"]))


def _read_expose(value: Json) -> Expose:
    names = ("port", "externalPort", "proto", "service", "global", "hosts", "httpOptions", "ip")
    fields = _fields(value, (*names, "endpointSequenceNumber"))
    return Expose(
        port=_number(fields["port"]),
        external_port=_number(fields["externalPort"]),
        proto=_text(fields["proto"]),
        service=_text(fields["service"]),
        is_global=_boolean(fields["global"]),
        hosts=_optional(fields["hosts"], _texts),
        http_options=_read_http_options(fields["httpOptions"]),
        ip=_text(fields["ip"]),
        endpoint_sequence_number=_number(fields["endpointSequenceNumber"]),
    )


def _read_http_options(value: Json) -> HttpOptions:
    names = ("maxBodySize", "readTimeout", "sendTimeout", "nextTries", "nextTimeout")
    fields = _fields(value, names, ("nextCases", "proxyBufferSize"))
    return HttpOptions(
        max_body_size=_number(fields["maxBodySize"]),
        read_timeout=_number(fields["readTimeout"]),
        send_timeout=_number(fields["sendTimeout"]),
        next_tries=_number(fields["nextTries"]),
        next_timeout=_number(fields["nextTimeout"]),
        next_cases=_texts(fields.get("nextCases", [])),
        proxy_buffer_size=_number(fields.get("proxyBufferSize", 0)),
    )


def _read_params(value: Json) -> ServiceParams:
    fields = _fields(value, ("storage",), ("permissions", "tee"))
    return ServiceParams(
        storage=_optional(fields["storage"], lambda many: _many(many, _read_mount, "params.storage")),
        permissions=_optional(fields.get("permissions"), _read_permissions),
        tee=_optional(fields.get("tee"), _read_tee),
    )


def _read_mount(value: Json) -> VolumeMount:
    fields = _fields(value, ("name", "mount", "readOnly"))
    return VolumeMount(
        name=_text(fields["name"]), mount=_text(fields["mount"]), read_only=_boolean(fields["readOnly"])
    )


def _read_permissions(value: Json) -> Permissions:
    if value == {}:
        return Permissions(read=())
    return Permissions(read=_texts(_fields(value, ("read",))["read"]))


def _read_tee(value: Json) -> Tee:
    fields = _fields(value, ("type", "attestation"))
    return Tee(kind=_text(fields["type"]), attestation=_boolean(fields["attestation"]))


def _read_credentials(value: Json) -> Credentials:
    fields = _fields(value, ("host", "email", "username", "password"))
    return Credentials(**{name: _text(fields[name]) for name in ("host", "email", "username", "password")})
