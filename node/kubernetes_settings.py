"""From a provider's configuration to the runtime of its cluster."""

from __future__ import annotations

from pathlib import Path

from fondaco.node.provider_config import ProviderConfig
from fondaco.protocol.errors import Refused
from fondaco.protocol.matching import gpu_model
from fondaco.provider.images.registries import Registries
from fondaco.provider.runtimes.kubernetes.access import access
from fondaco.provider.runtimes.kubernetes.client import ApiServer
from fondaco.provider.runtimes.kubernetes.cluster import Cluster
from fondaco.provider.runtimes.kubernetes.runtime import KubernetesRuntime
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users


def open_kubernetes(config: ProviderConfig, root: Path, registries: Registries) -> KubernetesRuntime:
    """The runtime that keeps its own few files below `root`.

    Raises `Refused` `config.field` and, for an API server that cannot be meant, `runtime.kubernetes`.
    """
    if config.images is not None:
        raise _wrong(
            "images lie on this machine, and a cluster's nodes pull theirs", hint="use a registry instead"
        )
    if config.kubernetes_users not in set(Users):
        raise _wrong(f"kubernetes_users is one of {', '.join(Users)}, not {config.kubernetes_users!r}")
    if config.egress not in ("none", "public"):
        raise _wrong(f"egress is none or public, not {config.egress!r}")
    _check_gpus(config)
    shape = Shape(
        provider="",
        users=Users(config.kubernetes_users),
        egress=config.egress == "public",
        runtime_class=config.kubernetes_runtime_class,
        storage_classes=config.kubernetes_storage_classes,
        gpu_nodes=config.kubernetes_gpu_nodes,
    )
    cluster = Cluster(
        ApiServer(
            access(config.kubernetes_server, config.kubernetes_token_file, config.kubernetes_ca_file),
        )
    )
    return KubernetesRuntime(root, cluster, registries, shape, probe_image=config.kubernetes_probe_image)


def _check_gpus(config: ProviderConfig) -> None:
    """Where nodes have different models, each must be told by a label, or tenants would get any of them."""
    for label in config.kubernetes_gpu_nodes.values():
        if not all(label.partition("=")):
            raise _wrong(f"kubernetes_gpu_nodes: {label!r} is not label=value")
    listed = [config.gpu_models, *(machine.gpu_models for machine in config.machines)]
    models = {_model(key) for one in listed for key in one}
    unknown = sorted(models - set(config.kubernetes_gpu_nodes))
    if len(models) > 1 and unknown:
        raise _wrong(f"kubernetes_gpu_nodes does not say which nodes have {', '.join(unknown)}")


def _model(key: str) -> str:
    found = gpu_model(key)
    return key.partition("/")[0] if found is None else found.model


def _wrong(message: str, *, hint: str = "") -> Refused:
    return Refused("config.field", f"provider: {message}", hint=hint)
