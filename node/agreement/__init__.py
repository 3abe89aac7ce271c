"""The engine's host: `service` carries out its effects, the other modules are what it needs for that."""

from fondaco.node.agreement.service import PROTOCOL, Agreement

__all__ = ["PROTOCOL", "Agreement"]
