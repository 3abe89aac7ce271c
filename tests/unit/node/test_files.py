from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support import children

from fondaco.node import files
from fondaco.node.files import DirectoryLock, write_atomically
from fondaco.protocol.errors import Refused


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    write_atomically(path, b"new", 0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_without_replace_the_first_writer_wins(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["state"]


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fondaco.node.files import write_atomically
path = Path(sys.argv[1])
write_atomically(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_atomically(path, bytes(1000))
except OSError as error:
    print(error.errno)
"""
    path = tmp_path / "state"
    assert children.run(script, path).strip() != ""
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_writing_goes_on_when_the_kernel_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    write_atomically(tmp_path / "state", b"0123456789")
    assert (tmp_path / "state").read_bytes() == b"0123456789"


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    script = """
import signal, sys
from pathlib import Path
from fondaco.node.files import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    print("held")
    signal.pause()
"""
    with children.running(script, tmp_path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Refused, match=f"process {child.pid}") as caught:
            DirectoryLock(tmp_path).acquire()
        assert caught.value.code == "home.in_use"
        child.kill()
        child.wait()
        DirectoryLock(tmp_path).acquire()


def test_a_folder_given_back_can_be_taken_again(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with lock:
        assert (tmp_path / files.LOCK_NAME).read_text() == f"{os.getpid()}\n"
        with pytest.raises(Refused):
            DirectoryLock(tmp_path).acquire()
    lock.release()
    with DirectoryLock(tmp_path):
        pass


def test_a_lock_that_cannot_write_its_holder_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        with pytest.raises(OSError, match="No space"):
            DirectoryLock(tmp_path).acquire()
    with DirectoryLock(tmp_path):
        pass
