"""A network on one machine: made once in a folder, then started and stopped as separate processes.

    HOME/
      testnet.json     who is who: names, roles, addresses
      genesis.json     the chain
      passphrase       protects the keys in here; readable by the owner alone
      images/          OCI image layout that the providers take images from
      keys/            the tenant's key, `tenant`; `authority`, which may change parameters; `issuer`, which may
                       mint and burn; and `auditor`, whom SDL files mean by the name of Akash's
      nodes/NAME/      one home for each node (see `node.config`)

A node stops when its standard input closes, so no process outlives the supervisor, not even after kill -9.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import trio

from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import CREDIT, Params
from fondaco.node import clock, config
from fondaco.node.config import NodeConfig, ProviderConfig
from fondaco.node.files import DirectoryLock, write_atomically
from fondaco.node.forked import Forked
from fondaco.node.groups import unwrapped
from fondaco.node.keys.keystore import Keystore
from fondaco.node.loopback import free_port
from fondaco.node.network.peers import peer_id_of
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import Height, MicroCredits, MicroStake, Millis, Power, PublicKey

log = logging.getLogger("fondaco.testnet")

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
POWER = Power(10)
IMAGES = Path("..", "..", "images")
"""Where a node finds the network's images, from its own home: so that a network's folder can be moved."""
AKASH_AUDITOR = "akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63"
"""The auditor that most SDL files name; on a test network its place is taken by the key `auditor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node of the network, as `testnet.json` lists it."""

    name: str
    role: str
    address: str
    api: str


@dataclass(slots=True)
class Plan:
    """What `testnet.json` says."""

    home: Path
    chain: str
    members: list[Member]

    @classmethod
    def load(cls, home: Path) -> Self:
        """Raises `Refused` `testnet.missing` or `testnet.malformed`."""
        path = home / "testnet.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(home, document["chain"], [Member(**entry) for entry in document["members"]])
        except OSError:
            raise Refused(
                "testnet.missing", f"there is no network in {home}", hint="start one with `fondaco testnet up`"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise Refused("testnet.malformed", f"{path}: {error}", hint="was it changed by hand?") from None

    def addresses(self) -> list[str]:
        return [member.address for member in self.members]


def create(
    home: Path,
    *,
    validators: int,
    providers: int,
    full_nodes: int = 0,
    params: Params | None = None,
    initial_height: int = 1,
    every_api: bool = False,
    market: bool = True,
    accounts: Sequence[GenesisAccount] = (),
) -> Plan:
    """Make keys, genesis and a home for each node; a full node follows and serves the chain, and no more.

    The first node has an API, with `every_api` all have; and a market database, unless told otherwise. The
    chain begins with `accounts`, besides those of the providers.

    Raises `Refused` `testnet.exists`.
    """
    if (home / "testnet.json").exists():
        raise Refused("testnet.exists", f"{home} already holds a network", hint="choose another --home")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    passphrase = secrets.token_urlsafe(24)
    write_atomically(home / "passphrase", passphrase.encode())
    keys = Keystore(home / "keys")
    keys.create("tenant", passphrase)
    authority, issuer, auditor = (
        keys.create(name, passphrase).public_key for name in ("authority", "issuer", "auditor")
    )
    counts = {"validator": validators, "provider": providers, "full": full_nodes}
    names = [(role, f"{role}-{index}") for role, count in counts.items() for index in range(count)]
    drafts = [
        _draft(home, name, role, passphrase, api=every_api or number == 0, market=market and number == 0)
        for number, (role, name) in enumerate(names)
    ]
    genesis = _genesis(drafts, params or testnet_params(), Height(initial_height))
    genesis = replace(
        genesis,
        accounts=(*genesis.accounts, *accounts),
        authority=authority,
        issuer=issuer,
        auditors=((AKASH_AUDITOR, auditor),),
    )
    document = json.dumps(genesis.to_json(), indent=2).encode()
    write_atomically(home / "genesis.json", document, 0o644)
    for draft in drafts:
        peers = tuple(other.address for other in drafts if other is not draft)
        _write_node(draft, document, peers)
    plan = Plan(home, genesis.chain, [draft.member for draft in drafts])
    listing = {
        "chain": plan.chain,
        "members": [
            {"name": one.name, "role": one.role, "address": one.address, "api": one.api} for one in plan.members
        ],
    }
    write_atomically(home / "testnet.json", json.dumps(listing, indent=2).encode(), 0o644)
    return plan


def testnet_params() -> Params:
    """What a network on a laptop wants: a faucet, and a small bond."""
    return Params(
        faucet_credits=MicroCredits(100 * CREDIT),
        faucet_stake=MicroStake(100 * CREDIT),
        provider_bond=MicroStake(CREDIT),
    )


@dataclass(slots=True)
class _Draft:
    home: Path
    name: str
    role: str
    node_key: PublicKey
    role_key: PublicKey
    port: int
    api_port: int
    market: bool

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{peer_id_of(self.node_key)}"

    @property
    def member(self) -> Member:
        api = f"http://127.0.0.1:{self.api_port}" if self.api_port else ""
        return Member(name=self.name, role=self.role, address=self.address, api=api)


def _draft(home: Path, name: str, role: str, passphrase: str, *, api: bool, market: bool) -> _Draft:
    where = home / "nodes" / name
    where.mkdir(mode=0o700, parents=True)
    write_atomically(where / "passphrase", passphrase.encode())
    keys = Keystore(where / "keys")
    node = keys.create("node", passphrase)
    own = node if role == "full" else keys.create(role, passphrase)
    api_port = free_port() if api else 0
    return _Draft(where, name, role, node.public_key, own.public_key, free_port(), api_port, market)


def _genesis(drafts: Sequence[_Draft], params: Params, initial_height: Height) -> Genesis:
    return Genesis(
        name="fondaco-local",
        time=Millis(clock.now()),
        initial_height=initial_height,
        params=params,
        validators=tuple(
            GenesisValidator(key=draft.role_key, power=POWER) for draft in drafts if draft.role == "validator"
        ),
        accounts=tuple(
            GenesisAccount(owner=draft.role_key, credits=MicroCredits(10 * CREDIT), stake=MicroStake(10 * CREDIT))
            for draft in drafts
            if draft.role == "provider"
        ),
        auditors=(),
    )


def _write_node(draft: _Draft, genesis: bytes, peers: tuple[str, ...]) -> None:
    provider = None
    if draft.role == "provider":
        index = int(draft.name.rpartition("-")[2])
        provider = ProviderConfig(
            attributes={"host": "akash", "region": ("eu-south", "us-west", "ap-east")[index % 3]},
            price_cpu=10_000 + 1_000 * index,
            images=IMAGES,
            stop_workloads=True,
        )
    settings = NodeConfig(
        home=draft.home,
        name=draft.name,
        listen=f"127.0.0.1:{draft.port}",
        peers=peers,
        validator=draft.role == "validator",
        provider=provider,
        api=f"127.0.0.1:{draft.api_port}" if draft.api_port else "",
        market=draft.market,
    )
    write_atomically(draft.home / "node.toml", config.dump(settings).encode(), 0o644)
    write_atomically(draft.home / "genesis.json", genesis, 0o644)


@dataclass(slots=True)
class _Running:
    process: Forked
    ready: dict[str, Any]


@dataclass(slots=True)
class Testnet:
    """The processes of a network; made by `running`."""

    plan: Plan
    nodes: dict[str, _Running] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Start one node and return when it serves. Raises `Unreachable` `node.start`, with its last words."""
        home = self.plan.home / "nodes" / name
        log_path = home / "node.log"
        process = await Forked.start(["node", "run", "--home", str(home), "--stop-with-stdin"], log_path)
        line = b""
        with trio.move_on_after(START_TIMEOUT_S):
            line = await _first_line(process)
        if not line:
            process.kill()
            await process.wait()
            await process.aclose()
            words = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise Unreachable("node.start", f"{name} did not start: {' / '.join(words)}", hint=f"see {log_path}")
        self.nodes[name] = _Running(process, json.loads(line))

    async def stop(self, name: str) -> int:
        """Stop one node and wait until it is gone; its exit code."""
        process = self.nodes.pop(name).process
        await process.aclose()
        with trio.move_on_after(STOP_TIMEOUT_S):
            return await process.wait()
        log.warning("%s did not stop within %d s", name, STOP_TIMEOUT_S)
        process.kill()
        return await process.wait()

    async def kill(self, name: str) -> None:
        """kill -9, as a crash would."""
        process = self.nodes.pop(name).process
        process.kill()
        await process.wait()
        await process.aclose()

    def pid(self, name: str) -> int:
        return self.nodes[name].process.pid

    async def start_all(self) -> None:
        """Start every node at once. Raises `Unreachable` for the first that does not come up."""
        with unwrapped():
            async with trio.open_nursery() as nursery:
                for member in self.plan.members:
                    nursery.start_soon(self.start, member.name)

    async def stop_all(self) -> dict[str, int]:
        """Stop what runs; exit codes by name."""
        codes: dict[str, int] = {}

        async def stop(name: str) -> None:
            codes[name] = await self.stop(name)

        async with trio.open_nursery() as nursery:
            for name in list(self.nodes):
                nursery.start_soon(stop, name)
        return codes


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Testnet]:
    """Start every node of a network; stop them all at the end, whatever happened."""
    with DirectoryLock(plan.home):
        network = Testnet(plan)
        try:
            await network.start_all()
            yield network
        finally:
            with trio.CancelScope(shield=True):
                await network.stop_all()


async def _first_line(process: Forked) -> bytes:
    line = b""
    async for chunk in process.stdout:
        line += chunk
        if b"\n" in line:
            return line.partition(b"\n")[0]
    return b""
