"""From a manifest to what a runtime starts."""

from __future__ import annotations

from dataclasses import replace

from fondaco.protocol import codec, matching
from fondaco.protocol import manifest as manifests
from fondaco.protocol.channel_calls import HandOff
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.manifest import TCP, ManifestGroup, Service
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.records import Lease
from fondaco.protocol.resources import Attribute, Group, Placement, ResourceUnit, Volume
from fondaco.protocol.scalars import ChainId, LeaseId
from fondaco.protocol.signing import require
from fondaco.provider.images.references import parse_reference, registry_host
from fondaco.provider.images.registries import Login
from fondaco.provider.ports import Sealer
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Link, Transport, VolumeKind, VolumeMount, WorkloadSpec

RAM_CLASS = "ram"


def open_hand_off(
    chain: ChainId,
    lease: Lease,
    sealed: bytes,
    receipt: SignedReceipt,
    sealer: Sealer,
    *,
    signature_counts: bool = True,
) -> ManifestGroup:
    """Open and judge what a tenant handed over for `lease`; the manifest it may run.

    Where `signature_counts` is not set, that the tenant signed the receipt is left unasked; that the manifest is
    the one the order committed to is asked in any case.

    Raises `Refused`: `receipt.manifest`, `receipt.signature`, `sealing.broken`, `manifest.malformed`,
    `manifest.commitment`, `manifest.invalid`, `manifest.mismatch`.
    """
    said = receipt.receipt
    if (said.lease, said.version, said.commitment) != (lease.id, lease.version, lease.commitment):
        raise Refused("receipt.manifest", "the receipt is for another manifest than the lease's")
    try:
        if signature_counts:
            require(chain, said, lease.tenant, receipt.signature)
    except PeerFault:
        raise Refused("receipt.signature", "the tenant of the lease did not sign this receipt") from None
    try:
        hand_off = codec.decode(sealer.open(sealed), HandOff)
        group = manifests.parse_group(hand_off.manifest)
    except Malformed as error:
        raise Refused("manifest.malformed", f"what was sealed is no hand-off: {error.message}") from None
    if manifests.commitment(hand_off.salt, group) != lease.commitment:
        raise Refused("manifest.commitment", "this manifest is not the one that the order committed to")
    manifests.check_against(leased_group(lease, group), group)
    return group


def leased_group(lease: Lease, manifest: ManifestGroup) -> Group:
    """What the ledger says was leased, as the group that `manifest` is compared with.

    An order may name several GPU models and the lease names the one that was given; where the manifest still names
    them all, and the leased one is among them, that is no difference.
    """
    asked = {service.resource_id: service.resources.gpu_attributes for service in manifest.services}
    return Group(
        name=manifest.name,
        units=tuple(_with_asked_models(unit, asked.get(unit.id, ())) for unit in lease.units),
        placement=Placement(attributes=(), all_of=(), any_of=()),
        max_price_per_hour=lease.price_per_hour,
    )


def _with_asked_models(unit: ResourceUnit, asked: tuple[Attribute, ...]) -> ResourceUnit:
    given = matching.gpu_models(unit.resources.gpu_attributes)
    if not asked or len(given) != 1 or not matching.gpu_will_do(asked, given[0]):
        return unit
    return replace(unit, resources=replace(unit.resources, gpu_attributes=asked))


def specs_of(lease: LeaseId, group: ManifestGroup) -> tuple[WorkloadSpec, ...]:
    """Every replica of every service.

    Raises `Refused` `workload.name`, `workload.replica`, `workload.links` for more of them than a lease may have
    or, for names of images and registries, `image.reference`.
    """
    for service in group.services:
        parse_reference(service.image)
    links = links_of(group)
    specs = tuple(
        _spec(lease, service, replica, links) for service in group.services for replica in range(service.count)
    )
    for spec in specs:
        assert spec.id, "building the id checks the names"
    if sum(len(spec.links) for spec in specs) > bounds.LEASE_LINKS:
        most = f"more than {bounds.LEASE_LINKS} ports of services that replicas of others may reach"
        raise Refused(
            "workload.links", f"group {group.name!r} has {most}", hint="expose fewer ports, or to fewer services"
        )
    return specs


def links_of(group: ManifestGroup) -> tuple[tuple[str, Link], ...]:
    """Which service may reach which, as they are exposed to each other: a service's name, and a link it has.

    One that is exposed to itself reaches itself already; one that runs elsewhere is not reached. Where a port is
    exposed twice under one number, the first stands.
    """
    names = {service.name for service in group.services}
    found: dict[tuple[str, str, int, Transport], Link] = {}
    for target in group.services:
        for expose in target.expose:
            if expose.service not in names - {target.name}:
                continue
            link = Link(
                service=target.name,
                port=expose.outside_port,
                target_port=expose.port,
                transport=Transport(expose.proto),
            )
            found.setdefault((expose.service, link.service, link.port, link.transport), link)
    return tuple((caller, link) for (caller, *_), link in found.items())


def _spec(lease: LeaseId, service: Service, replica: int, links: tuple[tuple[str, Link], ...]) -> WorkloadSpec:
    mounts = {mount.name: mount for mount in (service.params.storage or ())} if service.params else {}
    volumes = service.resources.volumes
    return WorkloadSpec(
        lease=lease,
        service=service.name,
        replica=replica,
        definition=manifests.service_hash(service).hex(),
        image=service.image,
        login=_login(service),
        command=service.command or (),
        args=service.args or (),
        env=service.env or (),
        cpu_milli=service.resources.cpu_milli,
        memory_bytes=service.resources.memory_bytes,
        links=tuple(link for caller, link in links if caller == service.name),
        linked_from=tuple(one for one in links if one[1].service == service.name),
        ephemeral_bytes=sum(volume.size_bytes for volume in volumes if volume.name not in mounts),
        volumes=tuple(
            _mount(volume, mounts[volume.name].mount, read_only=mounts[volume.name].read_only)
            for volume in volumes
            if volume.name in mounts
        ),
    )


def _login(service: Service) -> Login | None:
    given = service.credentials
    if given is None:
        return None
    return Login(host=registry_host(given.host), username=given.username, password=given.password)


def _mount(volume: Volume, path: str, *, read_only: bool) -> VolumeMount:
    attributes = {attribute.key: attribute.value for attribute in volume.attributes}
    kind = VolumeKind.RAM if attributes.get("class") == RAM_CLASS else VolumeKind.DISK
    return VolumeMount(
        name=volume.name,
        path=path,
        size_bytes=volume.size_bytes,
        kind=kind,
        persistent=kind is VolumeKind.DISK and attributes.get("persistent") == "true",
        read_only=read_only,
    )


def probe_port(service: Service) -> int | None:
    """The port whose answering shows that a replica serves; None for one that exposes no TCP port."""
    return next((expose.port for expose in service.expose if expose.proto == TCP), None)
