"""What a tenant needs, as a library: `from fondaco.node.tenant import Tenant`.

`Tenant` is loaded when it is first asked for: it brings the network with it, which not all parts here need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant

__all__ = ["Tenant"]


def __getattr__(name: str) -> object:
    if name == "Tenant":
        from fondaco.node.tenant.client import Tenant

        return Tenant
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
