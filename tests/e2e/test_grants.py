"""A tenant deploys with somebody else's money, on a real network, as far as it was granted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.test_main_job import HELLO
from tests.e2e.test_staking import fondaco, told
from tests.support.networks import network

from fondaco.node import image
from fondaco.node.tenant.client import Tenant
from fondaco.protocol import addresses
from fondaco.protocol.records import Deployment, SpendingGrant, key_deployment, key_grant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_deployment_paid_by_a_grant_gives_back_to_the_granter(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    hello = tmp_path / "hello.yaml"
    hello.write_bytes(HELLO)
    async with (
        network(tmp_path, validators=1, providers=1) as _,
        Tenant.connect(tmp_path) as tenant,
        Tenant.connect(tmp_path, key="auditor") as firm,
    ):
        await firm.wallet.ask_faucet()
        granter = firm.wallet.signer.public_key
        refused = await fondaco("deploy", hello, "--payer", firm.address, "--yes", "--home", tmp_path)
        assert (refused.exit_code, "[grant.none]" in refused.stderr) == (1, True)
        words = ("--limit", 50_000_000, "--key", "auditor", "--home", tmp_path)
        given = await told("grant", "give", tenant.address, *words)
        assert (given["limit_ucredit"], given["spent_ucredit"], given["scope"]) == (50_000_000, 0, "any")
        before = await firm.wallet.account()
        deployment = await tenant.deploy(hello, payer=granter)
        identity = deployment.file.deployment
        record = await tenant.light.record(key_deployment(identity), Deployment)
        assert record is not None
        (deposit,) = record.deposits
        assert (deposit.depositor, deposit.grantee) == (granter, tenant.wallet.signer.public_key)
        settled = await deployment.leases[0].close()
        after = await firm.wallet.account()
        assert before.credits - after.credits == settled.paid
        key = key_grant(granter, tenant.wallet.signer.public_key)
        grant = await tenant.light.record(key, SpendingGrant)
        assert grant is not None
        assert grant.spent == settled.paid
        shown = await told("grant", "show", tenant.address, "--granter", firm.address, "--home", tmp_path)
        assert (shown["granter"], shown["spent_ucredit"]) == (addresses.encode(granter), settled.paid)
        ended = await told("grant", "revoke", tenant.address, "--key", "auditor", "--home", tmp_path)
        assert (ended["limit_ucredit"], ended["scope"]) == (0, None)
        text = (await fondaco("grant", "show", tenant.address, "--key", "auditor", "--home", tmp_path)).stdout
        assert "may spend nothing" in text
