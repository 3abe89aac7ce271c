"""What one node is told: `node.toml` in its home, and where everything else in that home lies.

HOME/
  node.toml       this file
  genesis.json    the chain
  keys/           the keystore: `node`, and `validator` or `provider` where it is one
  data/           chain.db, peers.db, journal/, evidence/, snapshots/, sign-state, market/
  provider/       hand-offs, images, workloads
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.node import provider_config
from fondaco.node.keys.passphrases import read_passphrase
from fondaco.node.provider_config import MachineConfig, ProviderConfig
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

NO_HOME = "start a network here with `fondaco testnet up`, or name the folder of one: --home, $FONDACO_HOME"
"""What to try where a home is none."""
__all__ = ["MachineConfig", "NodeConfig", "ProviderConfig", "dump", "load", "read_passphrase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node, as its `node.toml` says."""

    home: Path
    name: str
    listen: str
    """Address the network listens on, host:port; empty: none, the node only dials."""
    peers: tuple[str, ...] = ()
    """Multiaddresses kept connected."""
    relays: tuple[str, ...] = ()
    """Multiaddresses of nodes that lead others to this one, where nobody can dial it."""
    relay: bool = False
    """Whether this node leads others to nodes behind it."""
    kad: bool = False
    """Whether it says where it is, and helps to find others, in the table of peers by key."""
    mdns: bool = False
    """Whether it looks for other nodes of its chain in the local network, and lets itself be seen there."""
    announce: tuple[str, ...] = ()
    """Public addresses that others are told, host:port or multiaddresses; empty: where it listens."""
    min_peers: int = 3
    """Others are dialled until there are so many outbound connections, those to `peers` included; 0: none are."""
    max_peers: int = 8
    """Beyond so many outbound connections not even peers that neighbours suggest are dialled."""
    validator: bool = False
    provider: ProviderConfig | None = None
    api: str = ""
    """Loopback address of the HTTP API, host:port; empty: none."""
    snapshot_interval: int = 1_000
    """A snapshot of the state is made at every height that this divides; 0: none."""
    keep_blocks: int = 0
    """So many of the newest blocks are kept, and what the snapshots here need; 0: all."""
    join_by_snapshot: bool = False
    """Begin with a snapshot from peers instead of with all blocks. Of no effect once there are blocks."""
    market: bool = False
    """Whether it keeps an event log and a market database."""
    market_days: int = 90
    """So many days of blocks the event log keeps at least; 0: all that fit."""
    trust: str = ""
    """HEIGHT:HASH of a header that the operator vouches for; needed to join where genesis is too old."""

    @property
    def genesis(self) -> Path:
        return self.home / "genesis.json"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def provider_home(self) -> Path:
        return self.home / "provider"

    @property
    def market_home(self) -> Path:
        """log.db, market.db and market.metadata.json."""
        return self.data / "market"

    def passphrase(self) -> str:
        """Raises `Refused` `keys.no_passphrase`."""
        return read_passphrase(self.home)


def load(home: Path) -> NodeConfig:
    """Read `node.toml`; a relative path in it is meant from `home`.

    Raises `Refused` `config.missing`, `config.syntax` or `config.field`.
    """
    path = home / "node.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused("config.missing", f"there is no {path}", hint=NO_HOME) from None
    except (OSError, ValueError) as error:
        raise Refused("config.syntax", f"{path}: {error}") from None
    lists = {name: _addresses(document, name, path) for name in ("peers", "relays", "announce")}
    provider = document.pop("provider", None)
    if provider is not None:
        provider = provider_config.read(provider, path)
    config: NodeConfig = _build(NodeConfig, document, path, home=home, provider=provider, **lists)
    if config.snapshot_interval < 0:
        raise Refused("config.field", f"{path}: snapshot_interval must be 0 or more")
    if config.market_days < 0:
        raise Refused("config.field", f"{path}: market_days must be 0 or more")
    if config.keep_blocks and config.keep_blocks < limits.KEEP_BLOCKS:
        raise Refused("config.field", f"{path}: keep_blocks must be 0, or {limits.KEEP_BLOCKS} at least")
    if not 0 <= config.min_peers <= config.max_peers <= limits.CONNECTIONS_OUTBOUND:
        raise Refused(
            "config.field",
            f"{path}: min_peers must be 0 or more, max_peers no less, and at most {limits.CONNECTIONS_OUTBOUND}",
        )
    return config


def _addresses(document: dict[str, Any], name: str, path: Path) -> tuple[str, ...]:
    listed = document.pop(name, [])
    if type(listed) is not list or not all(type(one) is str for one in listed):
        raise Refused("config.field", f"{path}: {name} must be a list of addresses, not {listed!r}")
    return tuple(listed)


def _build(kind: Any, values: Mapping[str, Any], path: Path, **given: Any) -> Any:
    known = kind.__dataclass_fields__
    for name, value in values.items():
        if name not in known or name in given:
            raise Refused("config.field", f"{path}: unknown key {name!r}")
        wanted = {"str": str, "int": int, "bool": bool}[known[name].type]
        if type(value) is not wanted:
            raise Refused("config.field", f"{path}: {name} must be {wanted.__name__}, not {value!r}")
    try:
        return kind(**values, **given)
    except TypeError as error:
        raise Refused("config.field", f"{path}: {error}") from None


def dump(config: NodeConfig) -> str:
    """The TOML text that `load` reads back."""
    lines = [
        f"name = {_toml(config.name)}",
        f"listen = {_toml(config.listen)}",
        f"peers = {_toml(list(config.peers))}",
        f"relays = {_toml(list(config.relays))}",
        f"relay = {_toml(config.relay)}",
        f"kad = {_toml(config.kad)}",
        f"mdns = {_toml(config.mdns)}",
        f"announce = {_toml(list(config.announce))}",
        f"min_peers = {_toml(config.min_peers)}",
        f"max_peers = {_toml(config.max_peers)}",
        f"validator = {_toml(config.validator)}",
        f"api = {_toml(config.api)}",
        f"snapshot_interval = {_toml(config.snapshot_interval)}",
        f"keep_blocks = {_toml(config.keep_blocks)}",
        f"join_by_snapshot = {_toml(config.join_by_snapshot)}",
        f"market = {_toml(config.market)}",
        f"market_days = {_toml(config.market_days)}",
        f"trust = {_toml(config.trust)}",
    ]
    if config.provider is not None:
        lines += ["", "[provider]", *provider_config.dump(config.provider, _toml)]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Mapping():
            return "{ " + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_toml(one) for one in value) + "]"
        case _:
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
