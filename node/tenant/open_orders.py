"""Orders made by hand, from their publication until they are accepted or expire: one file each.

In it are the salts that hide the manifests, so that it is its owner's alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.node import clock
from fondaco.node.files import write_atomically
from fondaco.node.tenant import bounds
from fondaco.node.tenant.ordering import Draft
from fondaco.protocol import codec, manifest
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.scalars import BlindingSalt, OrderId

SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """A published order, what it was made of, and what the deployment is to be called."""

    draft: Draft
    text: bytes
    """The SDL file."""
    name: str

    @property
    def expires_at(self) -> int:
        """In ms."""
        return self.draft.signed.order.expires_at


def save(home: Path, order: OpenOrder) -> None:
    """Keep it, and drop those that expired. Raises `Refused` `orders.full`."""
    folder = _folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(load_all(home)) >= bounds.OPEN_ORDERS:
        raise Refused("orders.full", f"{bounds.OPEN_ORDERS} orders are open", hint="they expire within minutes")
    draft = order.draft
    document = {
        "order": draft.id.hex(),
        "name": order.name,
        "sdl": order.text.decode("utf-8"),
        "signed": codec.encode(draft.signed).hex(),
        "manifests": [manifest.group_to_json(group).decode() for group in draft.manifests],
        "salts": [salt.hex() for salt in draft.salts],
    }
    write_atomically(folder / f"{draft.id.hex()}.json", json.dumps(document, indent=2).encode())


def forget(home: Path, identity: OrderId) -> None:
    """It became leases."""
    (_folder(home) / f"{identity.hex()}.json").unlink(missing_ok=True)


def load_all(home: Path) -> list[OpenOrder]:
    """Those that stand, the newest last; what expired is deleted. Raises `Refused` `orders.malformed`."""
    found = []
    for path in _folder(home).glob("*.json"):
        order = _read(path)
        if order.expires_at <= clock.now():
            path.unlink(missing_ok=True)
        else:
            found.append(order)
    return sorted(found, key=lambda order: order.expires_at)


def find(home: Path, text: str) -> OpenOrder:
    """By the start of its id or by its name, of which the newest counts. Raises `Refused` `order.not_found`."""
    known = load_all(home)
    named = [one for one in known if one.name == text]
    begins = [one for one in known if len(text) >= SHORTEST_PREFIX and one.draft.id.hex().startswith(text)]
    if not named and len(begins) != 1:
        why = f"{len(begins)} open orders start with" if begins else "no open order is called"
        raise Refused(
            "order.not_found", f"{why} {text!r}", hint="orders stand for five minutes; list: fondaco bids"
        )
    return named[-1] if named else begins[0]


def _folder(home: Path) -> Path:
    return home / "orders"


def _read(path: Path) -> OpenOrder:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        draft = Draft(
            id=OrderId(bytes.fromhex(document["order"])),
            signed=codec.decode(bytes.fromhex(document["signed"]), SignedOrder),
            manifests=tuple(manifest.parse_group(one.encode()) for one in document["manifests"]),
            salts=tuple(BlindingSalt(bytes.fromhex(one)) for one in document["salts"]),
        )
        return OpenOrder(draft=draft, text=document["sdl"].encode(), name=document["name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Malformed, Refused) as error:
        raise Refused("orders.malformed", f"{path}: {error}", hint="move the file away") from None
