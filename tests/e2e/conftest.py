"""What whole networks share with the tests of runtimes."""

from __future__ import annotations

from tests.integration.runtime.conftest import docker_service, podman_service

__all__ = ["docker_service", "podman_service"]
