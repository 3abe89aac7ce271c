"""The market's tables over random days: they take every event there is, and agree with the ledger's records."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus.ledger.application import Execution
from fondaco.node.market.index import Index
from fondaco.node.market.log import Happened, pack_events, unpack_events
from fondaco.node.market.shown import address
from fondaco.protocol import codec
from fondaco.protocol.agreement import CommitCertificate
from fondaco.protocol.records import Deployment, Lease, LeaseState, Provider
from fondaco.protocol.resources import totals

Row = dict[str, Any]
T = TypeVar("T")


def indexed(seed: int, messages: int, path: Path) -> tuple[Fuzz, Index]:
    """A random history, and the database of it, filled as it goes."""
    fuzz = Fuzz(seed)
    index = Index.open(path, fuzz.world.chain)
    assert index is not None
    index.apply([happened(fuzz.world.blocks[-1], fuzz.world.certificate, 1)])
    number = 1
    while fuzz.messages < messages:
        fuzz.block(20)
        number += 1
        index.apply([happened(fuzz.world.blocks[-1], fuzz.world.certificate, number)])
    return fuzz, index


def happened(execution: Execution, certificate: CommitCertificate | None, number: int) -> Happened:
    assert certificate is not None
    return Happened(
        number=number,
        height=execution.block.header.height,
        certificate=certificate,
        block=execution.block,
        events=unpack_events(pack_events(execution.events)),
        signed_power=10,
        total_power=10,
        size=len(codec.encode(execution.block)),
    )


def table(path: Path, name: str, key: str) -> dict[str, Row]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    rows = {row[key]: dict(row) for row in connection.execute(f"SELECT * FROM {name}")}
    connection.close()
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_rows_agree_with_records_whatever_happened(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "market.db"
    fuzz, index = indexed(seed, 2_500, path)
    index.close()
    leases, deployments = table(path, "leases", "id"), table(path, "deployments", "id")
    providers, leased = table(path, "providers", "address"), Counter[str]()
    for lease in records(fuzz, b"lease/", Lease):
        check_lease(lease, leases[lease.id.hex()])
        if lease.state != LeaseState.CLOSED:
            leased[address(lease.provider)] += totals(lease.units).cpu_milli
    for deployment in records(fuzz, b"deployment/", Deployment):
        check_deployment(deployment, deployments[deployment.id.hex()])
    bonds = {address(one.key): one.bond for one in records(fuzz, b"provider/", Provider)}
    assert {name: row["bond"] for name, row in providers.items() if row["bond"]} == bonds, "0 is who has retired"
    steps = table(path, "utilisation", "provider")  # the newest of each: rows come in order
    assert {name: row["cpu_milli"] for name, row in steps.items() if row["cpu_milli"]} == dict(leased)
    applied = fuzz.events["TransactionApplied"]
    assert len(table(path, "transactions", "id")) == applied
    assert {name for name, row in table(path, "events", "kind").items() if row} >= {"lease_closed", "paid"}


def records(fuzz: Fuzz, prefix: bytes, kind: type[T]) -> list[T]:
    found = fuzz.world.ledger.state().scan(prefix, 10**6)
    assert found
    return [codec.decode(raw, kind) for _, raw in found]


def check_lease(lease: Lease, row: Row) -> None:
    assert row["state"] == lease.state.name.lower()
    assert (row["tenant"], row["provider"]) == (address(lease.tenant), address(lease.provider))
    assert (row["deployment"], row["price_per_hour"]) == (lease.deployment.hex(), lease.price_per_hour)
    assert (row["paid"], row["reason"]) == (lease.paid, lease.reason)
    assert (row["opened_at"], row["activated_at"]) == (lease.opened_at, lease.activated_at)
    assert (row["closed_at"] is None) == (lease.closed_at is None)
    assert row["closed_at"] is None or row["closed_at"] >= (lease.closed_at or 0), "at the block that handled it"
    assert row["cpu_milli"] == totals(lease.units).cpu_milli


def check_deployment(deployment: Deployment, row: Row) -> None:
    funds = sum(deposit.amount for deposit in deployment.deposits)
    assert row["deposited"] - row["paid"] - row["fees"] - row["refunded"] == funds
    assert row["state"] == deployment.state.name.lower()
    assert row["tenant"] == address(deployment.tenant)
    assert (row["dry_at"] is None) == (deployment.dry_at is None)
