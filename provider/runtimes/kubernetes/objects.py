"""What a lease is in a cluster, besides its pods: a namespace, what may be in it, and who reaches whom.

Builders only: nothing here talks to anybody. Tests hold every object to the schemas of the oldest and the newest
server there is a schema of.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.references import HUB
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes.kubernetes.names import PROVIDER, SERVICE, claim_of, namespace_of
from fondaco.provider.runtimes.kubernetes.shape import Shape
from fondaco.provider.runtimes.port import Link, VolumeMount, WorkloadSpec

Object = dict[str, Any]

PRIVATE_4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
)
"""What is not the internet's (RFC 6890): pods, nodes, and 169.254.169.254, where clouds keep their secrets."""
PRIVATE_6 = ("::/127", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")
"""The second and the third lead to IPv4 addresses, private ones too."""
HUB_LOGIN = "https://index.docker.io/v1/"


def namespace(lease: LeaseId, shape: Shape) -> Object:
    levels = {
        f"pod-security.kubernetes.io/{mode}": level
        for mode, level in (("enforce", shape.pod_security), ("warn", "restricted"), ("audit", "restricted"))
    }
    metadata = {"name": namespace_of(lease), "labels": {PROVIDER: shape.provider, **levels}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def quota(specs: Sequence[WorkloadSpec], shape: Shape) -> Object:
    """No more of anything than all workloads of the lease come to: a second lock on the same door."""
    cpu, memory = sum(one.cpu_milli for one in specs), sum(one.memory_bytes for one in specs)
    hard = {
        "pods": str(len(specs)),
        "requests.cpu": f"{cpu}m",
        "limits.cpu": f"{cpu}m",
        "requests.memory": str(memory),
        "limits.memory": str(memory),
        "services.nodeports": "0",
        "services.loadbalancers": "0",
    }
    lease = specs[0].lease
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": _metadata(lease, "lease", shape),
        "spec": {"hard": hard},
    }


# --- Who reaches whom


def policies(specs: Sequence[WorkloadSpec], shape: Shape) -> list[Object]:
    """Nobody reaches anybody, but as links say, and the internet if the operator lets them."""
    lease = specs[0].lease
    found = [_policy(lease, "closed", shape, {}, {"policyTypes": ["Ingress", "Egress"]})]
    if shape.egress:
        found.append(_policy(lease, "internet", shape, {}, {"policyTypes": ["Egress"], "egress": [_internet()]}))
    if shape.egress or any(spec.links for spec in specs):
        found.append(_policy(lease, "names", shape, {}, {"policyTypes": ["Egress"], "egress": [_names()]}))
    for service, spec in {spec.service: spec for spec in specs}.items():
        linked: Object = {}
        if spec.linked_from:
            callers = [
                {"from": [_pods(caller)], "ports": [_port(link)]} for caller, link in _each(spec.linked_from)
            ]
            linked |= {"ingress": callers}
        if spec.links:
            linked |= {
                "egress": [
                    {"to": [_pods(link.service)], "ports": [_port(link)]} for link in dict.fromkeys(spec.links)
                ]
            }
        if linked:
            types = [kind.capitalize() for kind in linked]
            found.append(
                _policy(lease, f"links-{service}", shape, {SERVICE: service}, {"policyTypes": types, **linked})
            )
    return found


def _each(linked: tuple[tuple[str, Link], ...]) -> Iterable[tuple[str, Link]]:
    return dict.fromkeys(linked)


def _policy(lease: LeaseId, name: str, shape: Shape, pods: dict[str, str], more: Object) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(lease, name, shape),
        "spec": {"podSelector": {"matchLabels": pods} if pods else {}, **more},
    }


def _pods(service: str) -> Object:
    return {"podSelector": {"matchLabels": {SERVICE: service}}}


def _port(link: Link) -> Object:
    """A policy sees what a Service has led to: the port that pods listen on."""
    return {"protocol": link.transport.value, "port": link.target_port}


def _names() -> Object:
    """To the cluster's name service, where nearly every cluster has it."""
    where = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    return {"to": [where], "ports": [{"protocol": one, "port": 53} for one in ("UDP", "TCP")]}


def _internet() -> Object:
    blocks = (("0.0.0.0/0", PRIVATE_4), ("::/0", PRIVATE_6))
    return {"to": [{"ipBlock": {"cidr": all_, "except": list(private)}} for all_, private in blocks]}


def services(specs: Sequence[WorkloadSpec], shape: Shape) -> list[Object]:
    """A name for each service that others link to."""
    links = {link: None for spec in specs for link in spec.links}
    found: dict[str, dict[str, Object]] = {}
    for link in links:
        kind = link.transport.value
        name = f"{kind.lower()}-{link.port}"
        port = {
            "name": name,
            "protocol": kind,
            "port": link.port,
            "targetPort": link.target_port,
        }
        found.setdefault(link.service, {}).setdefault(name, port)
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(specs[0].lease, service, shape),
            "spec": {"selector": {SERVICE: service}, "ports": list(ports.values())},
        }
        for service, ports in found.items()
    ]


# --- What pods want to be there


def pull_secret(lease: LeaseId, login: Login, shape: Shape) -> Object:
    """To pull images with; pods cannot read it: they have no account, and do not reach the server."""
    pair = f"{login.username}:{login.password}".encode()
    entry = {"username": login.username, "password": login.password, "auth": base64.b64encode(pair).decode()}
    hosts = (login.host, HUB_LOGIN) if login.host == HUB else (login.host,)
    content = json.dumps({"auths": dict.fromkeys(hosts, entry)})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(lease, pull_secret_name(login), shape),
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()},
    }


def pull_secret_name(login: Login) -> str:
    said = "\0".join((login.host, login.username, login.password))
    return f"pull-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def claim(spec: WorkloadSpec, volume: VolumeMount, shape: Shape) -> Object:
    """Of a persistent volume; its size and class stay as they are first made."""
    wanted: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(volume.size_bytes)}},
    }
    if volume.storage_class:
        wanted["storageClassName"] = shape.storage_classes.get(volume.storage_class, volume.storage_class)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(spec.lease, claim_of(spec.service, spec.replica, volume.name), shape),
        "spec": wanted,
    }


def _metadata(lease: LeaseId, name: str, shape: Shape) -> Object:
    return {"name": name, "namespace": namespace_of(lease), "labels": {PROVIDER: shape.provider}}
