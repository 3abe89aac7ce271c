"""What a tenant and a provider agree on before a workload runs: orders, leases, manifests and their hand-off."""

from __future__ import annotations

from fondaco.node.keys.sealing import SealingPair, seal
from fondaco.node.samples import plain_unit
from fondaco.protocol import codec, manifest
from fondaco.protocol.channel_calls import HandOff
from fondaco.protocol.limits import MIB
from fondaco.protocol.manifest import Expose, ManifestGroup, Service
from fondaco.protocol.market import Order, Receipt, SignedReceipt, deployment_id, lease_id, order_id
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.resources import Group, Placement, Resources, ResourceUnit
from fondaco.protocol.scalars import BlindingSalt, ChainId, GroupIndex, MicroCredits, Millis, Salt
from fondaco.protocol.signing import Signer

CHAIN = ChainId("test")
TENANT, PROVIDER, OTHER = (Signer(bytes([number]) * 32) for number in (1, 2, 3))
SEALING = SealingPair.from_seed(b"s" * 32)
SALT = BlindingSalt(b"b" * 32)
START = Millis(1_000_000)


def resources() -> Resources:
    """Of one replica that answers HTTP."""
    endpoints = Expose(port=80, is_global=True).endpoints
    return plain_unit(cpu_milli=100, memory_bytes=64 * MIB, endpoints=endpoints).resources


def web(*, image: str = "web:1", count: int = 1, name: str = "web", port: int = 80) -> Service:
    return Service(
        name=name,
        image=image,
        command=None,
        args=None,
        env=("GREETING=hello",),
        resource_id=1,
        resources=resources(),
        count=count,
        expose=(Expose(port=port, external_port=80, is_global=True),),
        params=None,
        credentials=None,
    )


def manifest_group(*services: Service) -> ManifestGroup:
    return ManifestGroup(name="west", services=services or (web(),))


def units_of(group: ManifestGroup) -> tuple[ResourceUnit, ...]:
    return tuple(
        ResourceUnit(id=service.resource_id, resources=service.resources, count=service.count)
        for service in group.services
    )


def make_order(
    group: ManifestGroup | None = None, *, price: int = 5_000_000, life_ms: int = 600_000, salt: int = 0
) -> Order:
    group = manifest_group() if group is None else group
    return Order(
        tenant=TENANT.public_key,
        groups=(
            Group(
                name=group.name,
                units=units_of(group),
                placement=Placement(attributes=(), all_of=(), any_of=()),
                max_price_per_hour=MicroCredits(price),
            ),
        ),
        commitments=(manifest.commitment(SALT, group),),
        reclamation_window_ms=Millis(0),
        deposit=MicroCredits(1_000_000),
        reply_peers=(),
        expires_at=Millis(START + life_ms),
        salt=Salt(bytes([salt]) * 16),
    )


def make_lease(
    order: Order,
    group: ManifestGroup | None = None,
    *,
    provider: Signer = PROVIDER,
    state: LeaseState = LeaseState.AWAITING,
) -> Lease:
    group = manifest_group() if group is None else group
    deployment = deployment_id(order_id(CHAIN, order))
    return Lease(
        id=lease_id(deployment, GroupIndex(0)),
        deployment=deployment,
        group=GroupIndex(0),
        tenant=TENANT.public_key,
        provider=provider.public_key,
        price_per_hour=MicroCredits(1_000),
        units=units_of(group),
        commitment=manifest.commitment(SALT, group),
        version=1,
        reclamation_window_ms=Millis(0),
        state=state,
        opened_at=START,
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=START,
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def hand_off(
    lease: Lease, group: ManifestGroup | None = None, *, signer: Signer = TENANT, salt: BlindingSalt = SALT
) -> tuple[bytes, SignedReceipt]:
    """What a tenant hands over: the sealed box and the signed receipt."""
    group = manifest_group() if group is None else group
    box = seal(codec.encode(HandOff(salt=salt, manifest=manifest.group_to_json(group))), SEALING.key)
    receipt = Receipt(lease=lease.id, version=lease.version, commitment=lease.commitment)
    return box, SignedReceipt(receipt=receipt, signature=signer.sign(CHAIN, receipt))
