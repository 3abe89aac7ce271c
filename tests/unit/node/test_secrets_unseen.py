"""Objects that hold secrets show none of them, whoever prints them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fondaco.node import demo
from fondaco.node.tenant.ordering import Draft
from fondaco.node.tenant.records import LeaseFile
from fondaco.protocol import manifest, sdl
from fondaco.protocol.channel_calls import HandOff
from fondaco.protocol.channel_exec import ExecRequest
from fondaco.protocol.manifest.model import Credentials
from fondaco.protocol.scalars import BlindingSalt, LeaseId, PublicKey
from fondaco.provider.runtimes.port import Command

SECRET = "hunter2"
SALT = BlindingSalt(b"salty-salty-salty-salty-salty-sa")
(GROUP,) = sdl.parse(demo.HELLO.read_bytes().replace(b"- PORT=8080", f"- PORT={SECRET}".encode())).manifest
LOGIN = Credentials(host="h", email="e", username="u", password=SECRET)
(SERVICE,) = GROUP.services
LEASE = LeaseFile(
    lease=LeaseId(bytes(32)),
    provider=PublicKey(bytes(32)),
    peer="",
    addresses=(),
    salt=SALT,
    manifest=manifest.group_to_json(GROUP),
    group=None,
)


@pytest.mark.parametrize(
    "held",
    [
        GROUP,
        replace(GROUP, services=(replace(SERVICE, credentials=LOGIN),)),
        LEASE,
        HandOff(salt=SALT, manifest=LEASE.manifest),
        ExecRequest(service="web", replica=0, argv=(b"env",), env=(b"X=" + SECRET.encode(),), terminal=None),
        Command(argv=(b"env",), env=(b"X=" + SECRET.encode(),)),
        Draft(id=None, signed=None, manifests=(GROUP,), salts=(SALT,)),  # type: ignore[arg-type]
    ],
    ids=lambda held: type(held).__name__,
)
def test_what_holds_a_secret_does_not_show_it(held: object) -> None:
    for shown in (repr(held), str(held), f"{[held]}"):
        assert SECRET not in shown
        assert "salty" not in shown
