"""Why a lease ended: 0-9999 its tenant says, 10000-19999 its provider, from 20000 on the network itself."""

from __future__ import annotations

TENANT, PROVIDER, NETWORK = range(10_000), range(10_000, 20_000), range(20_000, 30_000)

CLOSED_BY_TENANT = 0
NOT_SERVING = 1
"""The tenant's probe found nothing, or something else than was agreed."""

REPLACED = 2
"""Another provider serves it from now on."""

UNSTABLE = 10_000
"""The workload cannot be kept up."""
DECOMMISSION = 10_001
"""The machine is taken out of service."""
UNSPECIFIED = 10_002
MANIFEST_TIMEOUT = 10_003
"""The tenant did not hand its manifest over."""

INSUFFICIENT_FUNDS = 20_000
HANDOFF_TIMEOUT = 20_001
FAULT = 20_002
"""The provider has been silent for too long."""

_NAMES = {
    CLOSED_BY_TENANT: "closed_by_tenant",
    NOT_SERVING: "not_serving",
    REPLACED: "replaced",
    UNSTABLE: "unstable",
    DECOMMISSION: "decommission",
    UNSPECIFIED: "unspecified",
    MANIFEST_TIMEOUT: "manifest_timeout",
    INSUFFICIENT_FUNDS: "insufficient_funds",
    HANDOFF_TIMEOUT: "handoff_timeout",
    FAULT: "fault",
}


def describe(reason: int) -> str:
    """What people are told: `handoff_timeout (20001, the network)`."""
    who = "the tenant" if reason in TENANT else "the provider" if reason in PROVIDER else "the network"
    name = _NAMES.get(reason)
    return f"{name} ({reason}, {who})" if name else f"{reason} ({who})"
