"""What a tenant needs, as a library: `from fondaco.node.tenant import Tenant, credits`.

`Tenant` is loaded when it is first asked for: it brings the network with it, which not all parts here need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fondaco.node.tenant.budget import Budget, credits
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.plans import Plan

__all__ = ["Budget", "Plan", "Tenant", "credits"]
_MODULES = {"Budget": "budget", "Plan": "plans", "Tenant": "client", "credits": "budget"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
