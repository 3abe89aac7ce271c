"""What this machine has to offer, looked at from outside: what a provider's configuration begins with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
KEPT_PERMILLE = 100
"""Of memory and free disk, for the machine itself."""
QUERY = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
QUERY_TIMEOUT_S = 10
GPUS = 64
_MODEL = re.compile(r"\b(rtx|gtx)? ?([a-z]{0,2}[0-9]{1,4}[a-z]{0,2}|v100|gh200)\b( ti| super)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    cpu_milli: int
    memory_bytes: int
    """Without what is kept for the machine itself; so the next."""
    storage_bytes: int
    gpus: dict[str, int]
    """By model, as orders name them."""
    unknown_gpus: int
    """That are there and do not say what they are."""


def look(folder: Path, *, devices: Path = Path("/dev"), query: tuple[str, ...] = QUERY) -> Machine:
    """Look at the machine, and at the disk that `folder` is on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = _asked(query)
    seen = len([one for one in devices.glob("nvidia[0-9]*") if one.name.removeprefix("nvidia").isdigit()])
    return Machine(
        cpu_milli=len(os.sched_getaffinity(0)) * 1_000,
        memory_bytes=_most_of(memory),
        storage_bytes=_most_of(shutil.disk_usage(folder).free),
        gpus=gpus,
        unknown_gpus=max(0, min(seen, GPUS) - sum(gpus.values())),
    )


def _most_of(amount: int) -> int:
    """In whole GiB."""
    return amount * (1_000 - KEPT_PERMILLE) // 1_000 // GIB * GIB


def _asked(query: tuple[str, ...]) -> dict[str, int]:
    """What the driver's own tool says, if it is there and works."""
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    models = (model_of(line) for line in told.splitlines()[:GPUS])
    return dict(sorted(Counter(model for model in models if model).items()))


def model_of(line: str) -> str:
    """`NVIDIA H100 80GB HBM3, 81559` as `h100/ram/80Gi/interface/sxm`; empty for what is not understood."""
    name, _, memory = line.lower().rpartition(",")
    words = re.sub(r"[^a-z0-9]+", " ", name.replace("nvidia", "").replace("geforce", "").replace("tesla", ""))
    found = _MODEL.search(words)
    if found is None or not memory.strip().isdigit():
        return ""
    model = "".join(part.strip() for part in found.groups() if part)
    ram = f"/ram/{-(-int(memory) // 1_024)}Gi"
    interface = "/interface/sxm" if "sxm" in words or "hbm3" in words else ""
    return f"{model}{ram}{interface or ('/interface/pcie' if 'pcie' in words else '')}"


def template(machine: Machine) -> str:
    """A `[provider]` for this machine, with what else may be said as comments."""
    gpus = ", ".join(f'"{name}" = {units}' for name, units in machine.gpus.items())
    names = sorted({name.split("/")[0] for name in machine.gpus})
    unknown = machine.unknown_gpus
    return f"""
[provider]
# What it is: orders ask for these, auditors attest them. What it has is said besides.
attributes = {{ host = "fondaco", region = "unknown" }}

# What it has; a tenth of memory and free disk is left to the machine.
cpu_milli = {machine.cpu_milli}
memory_bytes = {machine.memory_bytes}
storage_bytes = {machine.storage_bytes}
# GPUs are let by runtime = "kubernetes" alone:
# gpu_models = {{ {gpus} }}
{f"# {unknown} GPUs do not say what they are: name them above." if unknown else ""}
# What it asks, in ucredit an hour: a CPU, a GiB of memory, a GiB of storage, a GPU.
# A GPU without a price here is not let.
price_cpu = 10000
price_memory = 4000
price_storage = 100
# price_gpu = {{ {", ".join(f"{name} = 2000000" for name in names or ["h100"])} }}

# Never ask less than it costs:
# cost_cpu = 4000
# cost_memory = 1000
# Follow recent leases (needs market = true above), or utilisation, or a program of your own:
# pricing = "market"
# utilisation_curve = [[0, 800], [700, 1000], [1000, 2500]]
# pricing = "program"
# pricing_program = ["/usr/local/bin/price"]

# Where images come from, besides any public registry:
# allow_registries = ["docker.io", "ghcr.io"]
# private_registries = ["registry.lan:5000"]

# Whom it serves, and with how much:
# deny_tenants = []
# serve_most = {{ cpu_milli = 64000 }}
# leases_per_tenant = 20
# min_runway_ms = 3600000
"""
