"""The tenant's parts as a library."""

from __future__ import annotations

import pytest

import fondaco.node.tenant
from fondaco.node.tenant import Tenant
from fondaco.node.tenant.client import Tenant as Same


def test_the_tenant_is_found_where_the_documentation_says() -> None:
    assert Tenant is Same


def test_what_is_not_there_is_an_attribute_error_like_any_other() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Landlord'"):
        _ = fondaco.node.tenant.Landlord
