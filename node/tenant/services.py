"""A service: several deployments of one SDL file under one name, each at another provider with its own escrow.

    HOME/services/NAME/
      service.json      which deployments they are, and how they were to be chosen and spread
      sdl.yaml          what they run, to order one anew
      supervisor.json   what its supervisor must not forget (see `supervising`)
      lock              held by the one supervisor that there may be

Replicas are called `NAME.0`, `NAME.1`, ...; each is a deployment of that name as any other. A deployment that was
made alone is a service of one replica, without a folder.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fondaco.node.files import write_atomically
from fondaco.node.tenant import bounds, records
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.protocol import manifest
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import DeploymentId, PublicKey

SPREADS = ("provider", "region")
PROVIDER, REGION = SPREADS
"""No two replicas at one provider; in one region, either."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    name: str
    spread: str = PROVIDER
    count: int = 1
    """Replicas that were asked for."""
    replicas: dict[str, DeploymentId] = field(default_factory=dict)
    """Those there are, by name."""
    select: str = "cheapest"
    where: str = ""
    """How bids were to be chosen (`choosing.choice`)."""
    vantages: tuple[Path, ...] = ()
    """The files that say how fast providers are from where it counts."""
    deposit: int | None = None
    """Ucredit, of each; None for what an hour costs at most."""

    def missing(self) -> list[str]:
        """Names of the replicas that were asked for and are not there."""
        return [name for name in map(self.replica, range(self.count)) if name not in self.replicas]

    def replica(self, number: int) -> str:
        return f"{self.name}.{number}"

    def having(self, name: str, deployment: DeploymentId) -> Service:
        return replace(self, replicas={**self.replicas, name: deployment})


def folder(home: Path, name: str) -> Path:
    """Where a service is remembered. Raises `Refused` `service.name`."""
    if not _NAME.fullmatch(name):
        raise Refused("service.name", f"{name!r} is no name for a service: letters, digits, . _ and - make one")
    return home / "services" / name


def save(home: Path, service: Service) -> None:
    where = folder(home, service.name)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {
        "spread": service.spread,
        "count": service.count,
        "replicas": {name: deployment.hex() for name, deployment in service.replicas.items()},
        "select": service.select,
        "where": service.where,
        "vantages": [str(file) for file in service.vantages],
        "deposit": service.deposit,
    }
    write_atomically(where / "service.json", json.dumps(document, indent=2).encode())


def load(home: Path, name: str) -> Service | None:
    """The service of this name; None if there is none. Raises `Refused` `service.malformed`."""
    if not _NAME.fullmatch(name):
        return None
    path = folder(home, name) / "service.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        count, spread = document["count"], document["spread"]
        if type(count) is not int or not 1 <= count <= bounds.SERVICE_REPLICAS or spread not in SPREADS:
            raise ValueError("it asks for what there is not")
        found = {str(one): DeploymentId(bytes.fromhex(what)) for one, what in document["replicas"].items()}
        return Service(
            name=name,
            spread=spread,
            count=count,
            replicas=found,
            select=str(document["select"]),
            where=str(document["where"]),
            vantages=tuple(Path(file) for file in document.get("vantages", ())),
            deposit=None if document["deposit"] is None else int(document["deposit"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("service.malformed", f"{path}: {error}", hint="move the file away") from None


def save_sdl(home: Path, name: str, text: bytes) -> None:
    where = folder(home, name)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(where / "sdl.yaml", text)


def load_sdl(home: Path, name: str) -> bytes:
    """What its replicas run. Raises `Refused` `service.sdl` where that is not on file."""
    try:
        return (folder(home, name) / "sdl.yaml").read_bytes()
    except OSError as error:
        raise Refused("service.sdl", f"what {name} runs is not on file: {error.strerror}") from None


def names(home: Path) -> list[str]:
    """All services."""
    return sorted(path.parent.name for path in (home / "services").glob("*/service.json"))


def forget(home: Path, name: str) -> None:
    """Of its deployments the files stay, as of any that was closed."""
    shutil.rmtree(folder(home, name), ignore_errors=True)


def find(home: Path, deployments: Path, name: str, *, owner: PublicKey | None = None) -> Service:
    """A service, or the deployment of this name, `owner`'s before others, as one of a single replica.

    Raises `Refused` `lease.not_found`.
    """
    known = load(home, name)
    if known is not None:
        return known
    record, _ = records.find(deployments, name, owner=owner)
    return Service(name=record.name, replicas={record.name: record.deployment})


def files(service: Service, deployments: Path) -> dict[str, DeploymentFile]:
    """What is on file of each replica, by name, as it is now; one whose file is gone is left out."""
    found = {}
    for name, deployment in service.replicas.items():
        record = records.load(deployments, deployment)
        if record is not None:
            found[name] = record
    return found


def serving(record: DeploymentFile) -> LeaseFile:
    """The lease of a deployment that people mean: the first one with a port open to the world, else the first."""
    for lease in record.leases:
        group = manifest.parse_group(lease.manifest)
        if any(one.is_global for service in group.services for one in service.expose):
            return lease
    return record.leases[0]
