"""Making the home of a node: its genesis, its keys and its `node.toml`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fondaco.node import config, genesis_file
from fondaco.node.config import NodeConfig
from fondaco.node.files import write_atomically
from fondaco.node.keys.keystore import Keystore
from fondaco.node.network.peers import Address, endpoint, peer_id_of, peer_of, through
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey


def make_home(settings: NodeConfig, genesis: Path) -> dict[str, Any]:
    """Make the home that `settings` describes, for the chain that begins with the file `genesis`.

    Keys that are there already are used. What was made, as plain values.
    Raises `Refused` `node.exists`, `network.address`, `keys.*`, `genesis.*`.
    """
    home = settings.home
    if (home / "node.toml").exists():
        raise Refused("node.exists", f"{home} is a node's home already", hint="choose another --home")
    if settings.listen:
        endpoint(settings.listen)
    for peer in (*settings.peers, *settings.relays):
        peer_of(Address(peer))
    checked = genesis_file.check(genesis)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    roles = ["node", "validator"] if settings.validator else ["node"]
    keys = {role: ensure_key(settings, role) for role in roles}
    if checked.genesis.state is not None:
        shutil.copyfile(genesis_file.state_path(genesis), genesis_file.state_path(settings.genesis))
    write_atomically(settings.genesis, genesis.read_bytes(), 0o644)
    write_atomically(home / "node.toml", config.dump(settings).encode(), 0o644)
    validator = keys.get("validator")
    return {
        "home": str(home),
        "chain": checked.genesis.chain,
        "initial_height": checked.genesis.initial_height,
        "address": next(iter(addresses_of(settings)), ""),
        "validator": None if validator is None else addresses.encode(validator),
        "in_set": validator in {one.key for one in checked.genesis.validators},
    }


def addresses_of(settings: NodeConfig) -> list[str]:
    """What other nodes dial. Raises `Refused` `keys.not_found` before the node has a key."""
    peer = peer_id_of(Keystore(settings.keys).info("node").public_key)
    direct = [endpoint(settings.listen).address(peer)] if settings.listen else []
    return [*direct, *(through(Address(relay), peer) for relay in settings.relays)]


def ensure_key(settings: NodeConfig, role: str) -> PublicKey:
    """The key of that name, made if it is not there."""
    store, passphrase = Keystore(settings.keys), settings.passphrase()
    try:
        return store.load(role, passphrase).public_key
    except Refused as refusal:
        if refusal.code != "keys.not_found":
            raise
    return store.create(role, passphrase).public_key
