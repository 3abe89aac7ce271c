from __future__ import annotations

from fondaco.node.bench.light import measure


def test_a_lease_proof_over_ten_thousand_blocks_is_small_and_quick() -> None:
    found = measure()
    assert found.parameters["gap_blocks"] == 10_000
    assert found.figures["proof_bytes"].value <= 20_000
    assert found.figures["verify_ms"].value <= 20
