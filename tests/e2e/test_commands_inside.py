"""Commands inside a workload: with a terminal and without, interrupted, killed, and in pipelines."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from tests.support.children import ROOT
from tests.support.shells import Shell, piped
from tests.support.terminals import on_terminal

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


WATCH = """
import os, signal, sys, time
def size(*_): print('size', *os.get_terminal_size())
signal.signal(signal.SIGWINCH, size)
try:
    print(os.ttyname(0), os.environ['TERM'])
    size()
    while True: time.sleep(0.1)  # a signal on the way into a sleep is heard after it
except KeyboardInterrupt:
    print('interrupted')
    sys.exit(5)
"""


def test_a_command_on_a_terminal_is_resized_interrupted_and_leaves_the_terminal_as_it_was(
    shell: Shell, lease: str
) -> None:
    command = ("exec", "-t", lease[:12], "--home", shell.home, "--", "python3", "-u", "-c", WATCH)
    with on_terminal(*command, columns=90, rows=20, env={"TERM": "vt100"}) as terminal:
        assert b"/dev/pts/0 vt100" in terminal.await_text(b"size 90 20")
        assert terminal.settings() != terminal.before, "raw: keys go through as they are"
        terminal.resize(61, 17)
        terminal.await_text(b"size 61 17")
        terminal.type(b"\x03")
        terminal.await_text(b"interrupted")
        assert terminal.await_exit() == 5
        assert terminal.settings() == terminal.before


def test_a_client_that_is_killed_leaves_nothing_inside_and_one_told_to_end_its_terminal_in_order(
    shell: Shell, lease: str
) -> None:
    command = ("shell", lease[:12], "--home", shell.home, "--shell", "python3")
    for number in (signal.SIGKILL, signal.SIGTERM):
        with on_terminal(*command) as terminal:
            terminal.await_text(b">>> ")
            terminal.type(b"import subprocess, sys\r")
            nap = "[sys.executable, '-c', 'import time; time.sleep(600)']"
            terminal.type(f"subprocess.Popen({nap}, start_new_session=True), 'star' + 'ted'\r".encode())
            terminal.await_text(b"'started'")
            assert inside(shell, lease) == 3
            terminal.child.send_signal(number)
            code = terminal.await_exit()
            if number == signal.SIGTERM:
                assert (code, terminal.settings() == terminal.before) == (128 + number, True)
        deadline = time.monotonic() + 20
        while inside(shell, lease) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def inside(shell: Shell, lease: str) -> int:
    """So many Pythons run in the workload besides the one that counts."""
    code = """
import os
names = [open(f'/proc/{n}/comm').read() for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()]
print(sum(name == 'python3\\n' for name in names))
"""
    done = piped(shell, "exec", lease[:12], "--", "python3", "-c", code)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_command_without_a_terminal_is_part_of_a_pipeline(shell: Shell, lease: str) -> None:
    code = "import os, sys; sys.stdout.write(sys.stdin.read().upper() + os.environ['A']); sys.stderr.write('bad')"
    done = piped(shell, "exec", lease[:12], "-e", "A=b", "--", "python3", "-c", code, given=b"words ")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"WORDS b", b"bad")
    killed = piped(shell, "exec", "web", "--", "python3", "-c", "import os; os.kill(os.getpid(), 9)")
    assert (killed.returncode, killed.stdout, killed.stderr) == (137, b"", b"")
    fed = piped(shell, "shell", "web", "--shell", "python3", given=b"print(6 * 7); raise SystemExit(4)")
    assert (fed.returncode, fed.stdout) == (4, b"42\n")
    assert b"standard input is no terminal" in fed.stderr
    without = piped(shell, "exec", "web", "--pty", "--", "python3")
    assert (without.returncode, b"[exec.no_terminal]" in without.stderr) == (1, True)
    shellless = piped(shell, "shell", "web")
    assert (shellless.returncode, b"sh: no such command" in shellless.stderr) == (127, True)
    assert piped(shell, "exec", "web", "-e", "nonsense", "--", "python3").returncode == 2


def executing(shell: Shell, lease: str, code: str) -> subprocess.Popen[str]:
    """A client of its own that runs `code` in the workload."""
    command = [sys.executable, "-m", "fondaco", "exec", "--home", shell.home, lease, "--", "python3", "-c", code]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_command_ends_when_nobody_reads_its_output_any_more(shell: Shell, lease: str) -> None:
    endless = "while True: print('more')"
    with executing(shell, lease, endless) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "more\n"
        child.stdout.close()
        assert child.wait(timeout=20) == 128 + signal.SIGPIPE


def test_ctrl_c_reaches_a_command_without_a_terminal_and_the_second_ends_it(shell: Shell, lease: str) -> None:
    stubborn = """
import signal, time
signal.signal(signal.SIGINT, lambda *_: print('not yet', flush=True))
print('ready', flush=True)
while True: time.sleep(0.1)
"""
    with executing(shell, lease, stubborn) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "not yet\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 130
