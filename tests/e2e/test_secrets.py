"""A whole life with known secrets, in real processes at log level debug: nothing that is written shows any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nacl.signing
import pytest
from mnemonic import Mnemonic
from tests.support.children import ROOT
from tests.support.leaks import Search, Secret, Watch, files

from fondaco.node import demo, image, testnet
from fondaco.node.files import write_atomically
from fondaco.node.keys.keystore import Key, Keystore
from fondaco.node.tenant import records

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(600)]
PASSPHRASE = "open sesame 7f3a91c2"
DATABASE = "hunter2-of-the-database"
NEWER = "hunter3-of-the-database"
TYPED = "typed-at-an-exec-4711"
VERBOSE = """
import sys
from fondaco.node import logs
as_json = sys.argv.pop(1) == "json"
logs.configure_quiet = lambda: logs.configure(verbose=True, as_json=as_json)
from fondaco.node.cli import main
main()
"""
"""A command whose log says all that there is to say."""
CRASHES = """
import sys
from fondaco.node.cli import cli
from fondaco.node.tenant.deployment import Deployment
async def crash(self, report):
    raise RuntimeError(f"{self.file} {self.leases[0].group} {self.tenant} {self.tenant.wallet.signer}")
Deployment.hand_over = crash
cli(sys.argv[1:])
"""
"""Shows all that was at hand, as a careless message would."""


class Life:
    """A network and its tenant, each command and node a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        image.build_demo_image(home / "images")
        self.plan = testnet.create(home, validators=1, providers=1)
        self.network_passphrase = (home / "passphrase").read_text()
        self.written: dict[str, bytes] = {}
        """What commands printed, on either stream."""
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs = home / "logs"
        self.logs.mkdir()
        self.watch = Watch()
        self.kept: dict[str, tuple[bytes, int]] = {}
        """Files as they were while everything ran, with their modes."""
        (home / "secrets").mkdir()
        write_atomically(home / "secrets" / "passphrase", PASSPHRASE.encode())

    def start(self, name: str, *, as_json: bool) -> None:
        """A node whose passphrase is in its environment, and nowhere on its disk; returns when it serves."""
        where = self.home / "nodes" / name
        (where / "passphrase").unlink(missing_ok=True)
        command = [sys.executable, "-m", "fondaco", "node", "run", "--home", str(where), "--verbose"]
        with (self.logs / f"{name}.log").open("ab") as log, (self.logs / f"{name}.out").open("wb") as out:
            # No pipe: what a provider has started holds on to its ends after it was killed.
            self.nodes[name] = subprocess.Popen(
                [*command, *(["--log-json"] if as_json else [])],
                stdout=out,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "FONDACO_PASSPHRASE": self.network_passphrase},
            )
        deadline = time.monotonic() + 60
        while not (self.logs / f"{name}.out").read_bytes().endswith(b"\n"):
            assert self.nodes[name].poll() is None, (self.logs / f"{name}.log").read_text()
            assert time.monotonic() < deadline, f"{name} does not serve"
            time.sleep(0.05)

    def stop(self, name: str, number: int) -> int:
        node = self.nodes.pop(name)
        node.send_signal(number)
        return node.wait(timeout=60)

    def run(self, *words: object, key: str = "me", script: str = VERBOSE, code: int = 0, given: str = "") -> bytes:
        """One command to its end; what it prints."""
        text = [str(word) for word in words]
        head = ["text" if len(self.written) % 2 else "json"] if script == VERBOSE else []
        environment = {**os.environ, "FONDACO_HOME": str(self.home), "FONDACO_KEY": key}
        environment["FONDACO_PASSPHRASE_FILE"] = str(self.home / "secrets" / "passphrase")
        done = subprocess.run(
            [sys.executable, "-c", script, *head, *text],
            env=environment,
            input=given.encode(),
            capture_output=True,
            cwd=ROOT,
            timeout=90,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        number = len(self.written)
        self.written[f"stdout of {number} {text[0]}"] = done.stdout
        self.written[f"stderr of {number} {text[0]}"] = done.stderr
        return done.stdout

    def json(self, *words: object, **options: Any) -> Any:
        return json.loads(self.run(*words, "--json", **options))

    def opened_keys(self) -> Iterator[tuple[str, Key]]:
        """Every key of the tenant and of the nodes, opened."""
        for folder in (self.home, *(self.home / "nodes").iterdir()):
            store = Keystore(folder / "keys")
            for info in store.list():
                own = info.name in ("me", "colleague")
                yield (
                    f"{folder.name} {info.name}",
                    store.load(info.name, PASSPHRASE if own else self.network_passphrase),
                )


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    found = Life(tmp_path)
    try:
        yield found
    finally:
        for name in list(found.nodes):
            found.nodes[name].kill()
            found.stop(name, signal.SIGKILL)


def sdl(path: Path, password: str) -> Path:
    path.write_bytes(
        demo.HELLO.read_bytes().replace(
            b"- PORT=8080\n", f"- PORT=8080\n      - DB_PASSWORD={password}\n".encode()
        )
    )
    return path


def live(life: Life) -> None:
    """All that a tenant does, with a provider that is killed on the way, and a command that fails."""
    home, given = life.home, life.home / "secrets"
    for name in ("me", "colleague"):
        made = life.json("keys", "create", name)
        words = next(one for one in reversed(life.written) if one.startswith("stdout"))
        assert made["words"].encode() in life.written.pop(words), "shown once, and here alone"
    life.run("wallet", "--faucet")
    first, second = sdl(given / "app.yaml", DATABASE), sdl(given / "newer.yaml", NEWER)
    (lease,) = life.json("deploy", first, "--yes")["leases"]
    life.run("logs", "app")
    show = "import os; print(len(os.environ['DB_PASSWORD']), len(os.environ['TYPED']))"
    assert life.run("exec", "app", "--", "python3", "-c", "print(6 * 7)") == b"42\n"
    with_env = ("exec", "-e", "TYPED=1", "app", "--", "python3", "-c", show)
    assert life.run(*with_env) == f"{len(DATABASE)} 1\n".encode()
    assert life.run("shell", "app", "--shell", "python3", given=f"x = '{TYPED}'\nprint(len(x))\n").strip()
    token, holder = given / "app.token", Keystore(home / "keys").info("colleague").address
    life.run("token", "create", "app", "--for", holder, "--scope", "status,logs,exec", "--out", token)
    life.run("status", "--token", token, key="colleague")
    life.run("exec", "--token", token, "--", "python3", "-c", "print(1)", key="colleague")
    life.run("update", "app", second)
    life.stop("provider-0", signal.SIGKILL)
    with life.watch.away():
        life.start("provider-0", as_json=False)
    life.run("request", "app", "/")
    life.run("status", "app")
    life.run("wallet", "send", holder, "1credit", "--yes")
    life.run("deploy", first, "--name", "doomed", "--yes", script=CRASHES, code=1)
    life.kept = {place: (data, mode) for place, data, mode in files(life.home, skip="images")}
    life.run("token", "revoke", "app", "--all")
    life.run("events", "app")
    life.run("close", "app", "--grace", "1")
    life.run("logs", lease, code=1)


def secrets_of(life: Life) -> Iterator[Secret]:
    """Each with the places where it belongs; what is not named belongs nowhere."""
    yield Secret("the tenant's passphrase", PASSPHRASE.encode(), {"secrets/passphrase"}.__contains__)
    yield Secret("the nodes' passphrase", life.network_passphrase.encode(), {"passphrase"}.__contains__)
    for name, key in life.opened_keys():
        yield Secret(f"seed of {name}", key.seed)
        yield Secret(f"secret key of {name}", nacl.signing.SigningKey(key.seed)._signing_key)
        yield Secret(f"sealing key of {name}", bytes(key.sealing()._secret))
        if key.entropy is not None:
            yield Secret(f"words of {name}", key.words().encode())
            yield Secret(f"last words of {name}", " ".join(key.words().split()[-4:]).encode())
            yield Secret(f"entropy of {name}", key.entropy)
            yield Secret(f"BIP-39 seed of {name}", Mnemonic.to_seed(key.words(), passphrase=""))

    def of_workload(place: str) -> bool:
        """The file that says it, the tenant's copy of it, what starts the workload, and the workload itself."""
        if place.startswith("nodes/provider-0/provider/runtime/run/"):
            return Path(place).name in ("recipe.json", "exec.json")
        return place.startswith(("secrets/", "deployments/")) or place == "environ in a workload"

    for name, text in (("the SDL's secret", DATABASE), ("the newer SDL's secret", NEWER)):
        yield Secret(name, text.encode(), of_workload)
    yield Secret("what was typed into a shell", TYPED.encode())
    for record in records.load_all(life.home / "deployments"):
        for lease in record.leases:
            yield Secret("a blinding salt", lease.salt, lambda place: place.startswith("deployments/"))


def test_nothing_that_is_written_shows_a_secret(life: Life) -> None:
    for name in ("validator-0", "provider-0"):
        life.start(name, as_json=name == "validator-0")
    with life.watch:
        live(life)
    for name in list(life.nodes):
        assert life.stop(name, signal.SIGTERM) == 0
    search = Search(secrets_of(life))
    for kind, text in life.watch.shown:
        search.look(kind, text)
    for name, text in life.written.items():
        search.look(name, text)
    for place, (data, _) in life.kept.items():
        search.look(place, data)
    for place, data, mode in files(life.home, skip="images"):
        search.look(place, data)
        life.kept[place] = data, mode
    assert search.found == set()
    places = {place for _, place in search.seen}
    assert {"secrets/passphrase", "secrets/app.yaml", "environ in a workload"} <= places, "it can find them"
    assert any(place.endswith("recipe.json") for place in places)
    for place in places & life.kept.keys():
        assert place.startswith("secrets/") or life.kept[place][1] == 0o600, place
