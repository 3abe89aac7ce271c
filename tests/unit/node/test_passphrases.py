"""Where a passphrase comes from, and that it leaves the environment on the way."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.children import ROOT

from fondaco.node.files import write_atomically
from fondaco.node.keys import passphrases
from fondaco.protocol.errors import Refused


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_atomically(tmp_path / "passphrase", b"of the home\n")
    return tmp_path


def code_of(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        passphrases.read_secret(path)
    return caught.value.code


def test_the_home_has_it_unless_the_environment_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passphrases.read_passphrase(home) == "of the home"
    write_atomically(home / "other", b" of a file \n")
    monkeypatch.setenv(passphrases.FILE_VARIABLE, str(home / "other"))
    assert passphrases.read_passphrase(home) == "of a file"
    monkeypatch.setenv(passphrases.VARIABLE, " as given")
    assert passphrases.read_passphrase(home) == " as given"


def test_what_was_taken_is_in_the_environment_no_more_and_is_not_forgotten(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(passphrases.VARIABLE, "once")
    monkeypatch.setenv(passphrases.FILE_VARIABLE, "/nowhere")
    assert [passphrases.read_passphrase(home) for _ in range(2)] == ["once", "once"]
    assert not {passphrases.VARIABLE, passphrases.FILE_VARIABLE} & os.environ.keys()
    assert b"once" not in subprocess.run(["env"], capture_output=True, check=True).stdout
    assert "once" not in repr(passphrases._taken)
    monkeypatch.setenv(passphrases.VARIABLE, "twice")
    assert passphrases.read_passphrase(home) == "twice"
    passphrases.forget()
    assert passphrases.read_passphrase(home) == "of the home"


def test_the_kernel_does_not_show_it_after_it_was_taken() -> None:
    script = (
        "from pathlib import Path\n"
        "from fondaco.node.keys import passphrases\n"
        "before = Path('/proc/self/environ').read_bytes()\n"
        "passphrases.take()\n"
        "after = Path('/proc/self/environ').read_bytes()\n"
        "print(b'correct horse' in before, b'correct horse' in after, b'OTHER=kept' in after)\n"
    )
    environment = {**os.environ, passphrases.VARIABLE: "correct horse", "OTHER": "kept"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "True False True\n"


def test_a_file_that_others_may_read_is_refused_with_what_to_do(home: Path) -> None:
    path = home / "passphrase"
    for mode in (0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(Refused) as refusal:
            passphrases.read_passphrase(home)
        assert refusal.value.code == "secret.permissions"
        assert refusal.value.hint == f"chmod 600 {path}"


def test_what_is_no_secret_is_refused(home: Path) -> None:
    for data, code in (
        (b" \n", "secret.empty"),
        (b"\xff", "secret.unreadable"),
        (b"x" * (passphrases.FILE_BYTES + 1), "secret.size"),
    ):
        write_atomically(home / "secret", data)
        assert code_of(home / "secret") == code
    assert code_of(home / "nowhere") == "secret.unreadable"


def test_standard_input_and_a_pipe_are_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\n")))
    assert passphrases.read_secret(Path("-")) == "typed"
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    assert passphrases.read_secret(Path(f"/dev/fd/{reading}")) == "piped"
    os.close(reading)


def test_who_has_none_is_told_how_to_give_one(tmp_path: Path) -> None:
    assert passphrases.find(tmp_path) is None
    with pytest.raises(Refused) as refusal:
        passphrases.read_passphrase(tmp_path)
    assert refusal.value.code == "keys.no_passphrase"
