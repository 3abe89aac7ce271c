"""The page on a provider's configuration is current and tells of every key."""

from __future__ import annotations

import dataclasses

import pytest

from fondaco.node.provider_config import MachineConfig, ProviderConfig
from fondaco.node.reference import provider as reference


@pytest.mark.parametrize("kind", [ProviderConfig, MachineConfig])
def test_every_key_has_a_meaning(kind: type) -> None:
    assert set(reference._meanings(kind)) == {field.name for field in dataclasses.fields(kind)}
