"""Says what this machine lacks, before anything is installed. Standard library only; run by path, not imported.

`python3 node/preflight.py --setup` checks what `make setup` needs; without the flag it also checks that a
sandbox can really be started, by starting one.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys


def setup_problems() -> list[str]:
    """What keeps a virtual environment from being made, each with what to install and why."""
    problems = []
    if sys.version_info < (3, 11):  # noqa: UP036 - the one place that may meet an older Python
        found = ".".join(map(str, sys.version_info[:3]))
        problems.append(f"Python {found} is too old: install python3.11 or newer, and set PYTHON=python3.11")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        problems.append("python3-venv is missing: sudo apt install python3-venv (it makes the environment)")
    if sys.platform != "linux":
        problems.append(f"{sys.platform} cannot run workloads: sandboxes need Linux namespaces")
    return problems


def sandbox_problems() -> list[str]:
    """What keeps a workload from being started. A capability is tried, never inferred from a version."""
    if shutil.which("crun"):
        return []
    unshare = shutil.which("unshare")
    if unshare is None:
        return ["unshare is missing: sudo apt install util-linux (it makes the namespaces of a sandbox)"]
    command = [unshare, "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount", "true"]
    try:
        trial = subprocess.run(command, capture_output=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        trial = None
    if trial is not None and trial.returncode == 0:
        return []
    return [
        "plain user namespaces are blocked here (as on Ubuntu 24.04, by AppArmor): sudo apt install crun "
        "(the distribution's crun has a profile that allows it to start sandboxes)"
    ]


def main() -> int:
    problems = setup_problems()
    if "--setup" not in sys.argv[1:]:
        problems += sandbox_problems()
    for problem in problems:
        print(f"fondaco: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
