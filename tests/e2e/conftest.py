"""What whole networks share with the tests of runtimes."""

from __future__ import annotations

from tests.integration.runtime.conftest import podman_socket

__all__ = ["podman_socket"]
