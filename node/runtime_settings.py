"""From a provider's configuration to its runtime, and the registries it takes images from."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from fondaco.node.kubernetes_settings import open_kubernetes
from fondaco.node.provider_config import ProviderConfig
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.provider.images.blobs import BlobStore
from fondaco.provider.images.pulling import RegistrySource
from fondaco.provider.images.references import registry_host
from fondaco.provider.images.registries import Login, Registries, check_entry
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.network import NO_EGRESS, Egress, is_public
from fondaco.provider.runtimes.oci import ImageSource, LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import KeepingRuntime

RUNTIME = "runtime"
"""The runtime's folder in a provider's."""
LOGINS_BYTES = 1 * MIB
RESOLVERS = 3
"""The C library asks no more."""


def registries_of(config: ProviderConfig) -> Registries:
    """Raises `Refused` `config.field` and `config.credentials`."""
    if config.image_cache_bytes < 0:
        raise Refused("config.field", "provider: image_cache_bytes is negative")
    try:
        for entry in (*config.allow_registries, *config.deny_registries):
            check_entry(entry)
        return Registries(
            allow=config.allow_registries,
            deny=config.deny_registries,
            private=frozenset(map(registry_host, config.private_registries)),
            insecure=frozenset(map(registry_host, config.insecure_registries)),
            logins={} if config.registry_credentials is None else read_logins(config.registry_credentials),
        )
    except Refused as error:
        if error.code.startswith("config."):
            raise
        raise Refused("config.field", f"provider: registries: {error.message}") from None


def read_logins(path: Path) -> dict[str, Login]:
    """By host, from a TOML file of tables named by hosts, each with a `username` and a `password`.

    Raises `Refused` `config.credentials`, with nothing of the file's content in it; also for a file that others
    than its owner can read.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise _wrong(f"{path} can be read by others", hint=f"chmod 600 {path}")
        with path.open("rb") as file:
            content = tomllib.loads(file.read(LOGINS_BYTES).decode())
    except OSError as error:
        raise _wrong(f"{path}: {error.strerror}") from None
    except ValueError:
        raise _wrong(f"{path} is not TOML") from None
    logins = {}
    for host, entry in content.items():
        match entry:
            case {"username": str(username), "password": str(password)} if len(entry) == 2:
                known = registry_host(host)
                logins[known] = Login(host=known, username=username, password=password)
            case _:
                raise _wrong(f"{path}: [{host!r}] needs a username and a password, and nothing else")
    return logins


def open_runtime(config: ProviderConfig, home: Path) -> KeepingRuntime:
    """What runs workloads below `home`, never another one instead, with every source of images that is configured.

    The operator's own layout is asked first: it needs no network. Raises what `registries_of`, `egress_of` and
    `open_kubernetes` do.
    """
    root = home / RUNTIME
    if config.runtime == "kubernetes":
        return open_kubernetes(config, root, registries_of(config))
    sources: list[ImageSource] = [] if config.images is None else [LayoutSource(config.images)]
    sources.append(RegistrySource(registries_of(config), BlobStore(root / "images" / "blobs")))
    if config.runtime == "podman":
        return PodmanRuntime(
            root,
            sources,
            socket=config.podman_socket,
            image_cache_bytes=config.image_cache_bytes,
            egress=egress_of(config),
        )
    if config.runtime == "docker":
        return DockerRuntime(
            root,
            sources,
            socket=config.docker_socket,
            image_cache_bytes=config.image_cache_bytes,
            egress=egress_of(config),
        )
    return EmbeddedRuntime(root, sources, image_cache_bytes=config.image_cache_bytes, egress=egress_of(config))


def check_gpus(config: ProviderConfig) -> None:
    """Raises `Refused` `runtime.gpu` for a provider that offers what its runtime gives to no workload."""
    listed = [config.gpu_models, *(machine.gpu_models for machine in config.machines)]
    if config.runtime != "kubernetes" and any(units for models in listed for units in models.values()):
        raise Refused(
            "runtime.gpu",
            f"runtime = {config.runtime!r} gives workloads no GPUs, and gpu_models offers some",
            hint='set runtime = "kubernetes", or take gpu_models out',
        )


def egress_of(config: ProviderConfig) -> Egress:
    """Raises `Refused` `config.field`, and `runtime.egress` where the program for it is missing."""
    if config.egress == "none":
        return NO_EGRESS
    if config.egress != "public":
        raise Refused("config.field", f"provider: egress is none or public, not {config.egress!r}")
    if not 1 <= len(config.dns) <= RESOLVERS:
        raise Refused("config.field", f"provider: dns names 1..{RESOLVERS} resolvers")
    for address in config.dns:
        if not is_public(address):
            message = f"provider: dns: {address!r} is no public IPv4 address, and workloads reach no others"
            raise Refused("config.field", message)
    pasta = shutil.which("pasta")
    if pasta is None:
        raise Refused(
            "runtime.egress",
            "egress is public, and pasta, which carries it, is not installed",
            hint='apt install passt, or set egress = "none"',
        )
    return Egress(pasta=pasta, dns=config.dns)


def _wrong(message: str, *, hint: str = "") -> Refused:
    return Refused("config.credentials", f"provider: registry credentials: {message}", hint=hint)
