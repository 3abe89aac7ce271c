"""Small resource units, groups and SDL files that tests vary."""

from __future__ import annotations

from fondaco.protocol.limits import GIB
from fondaco.protocol.resources import (
    Attribute,
    Endpoint,
    EndpointKind,
    Group,
    Placement,
    Resources,
    ResourceUnit,
    Volume,
)
from fondaco.protocol.scalars import MicroCredits, PublicKey

SDL = """\
version: "2.0"
services:
  web:
    image: nginx:1.27
    expose:
      - port: 80
        to:
          - global: true
profiles:
  compute:
    small:
      resources:
        cpu:
          units: 500m
        memory:
          size: 512Mi
        storage:
          size: 1Gi
  placement:
    west:
      pricing:
        small:
          denom: uact
          amount: 1000
deployment:
  web:
    west:
      profile: small
      count: 2
"""
"""The smallest file worth deploying; each line is named once, so that tests can replace it."""


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


def attributes(**values: str) -> tuple[Attribute, ...]:
    """Sorted by key; `_` in names stands for `/`."""
    pairs = {name.replace("_", "/"): value for name, value in values.items()}
    return tuple(Attribute(key=name, value=pairs[name]) for name in sorted(pairs))


def gpu(*models: str) -> tuple[Attribute, ...]:
    """`h100`, `h100/ram/80Gi/interface/sxm`, `*`."""
    return tuple(Attribute(key=f"vendor/nvidia/model/{model}", value="true") for model in sorted(models))


def volume(name: str = "default", size: int = GIB, kind: str = "", persistent: str = "") -> Volume:
    """`kind` is its class; empty values are left out."""
    pairs = (("class", kind), ("persistent", persistent))
    return Volume(
        name=name,
        size_bytes=size,
        attributes=tuple(Attribute(key=name, value=value) for name, value in pairs if value),
    )


HTTP = Endpoint(kind=EndpointKind.SHARED_HTTP, sequence_number=0)


def unit(
    number: int = 1,
    *,
    count: int = 1,
    cpu: int = 1_000,
    memory: int = GIB,
    gpus: int = 0,
    models: tuple[Attribute, ...] = (),
    volumes: tuple[Volume, ...] = (volume(),),
    endpoints: tuple[Endpoint, ...] = (HTTP,),
) -> ResourceUnit:
    return ResourceUnit(
        id=number,
        count=count,
        resources=Resources(
            cpu_milli=cpu,
            cpu_attributes=(),
            memory_bytes=memory,
            memory_attributes=(),
            gpu_units=gpus,
            gpu_attributes=models,
            volumes=volumes,
            endpoints=endpoints,
        ),
    )


def group(
    *units: ResourceUnit,
    price: int = 2_000_000,
    asked: tuple[Attribute, ...] = (),
    all_of: tuple[PublicKey, ...] = (),
    any_of: tuple[PublicKey, ...] = (),
) -> Group:
    return Group(
        name="west",
        units=units or (unit(),),
        placement=Placement(attributes=asked, all_of=all_of, any_of=any_of),
        max_price_per_hour=MicroCredits(price),
    )
