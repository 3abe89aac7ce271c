"""CometBFT's model-based light-client tests on our verifier, through an adapter for its hashes and sign bytes.

In the vectors the clocks do not drift, the trust level is 1/3, and trust advances on success only.
"""

from __future__ import annotations

import json

from tests.support.cometbft import CometBlock, CometValidators, header_hash, nanoseconds
from tests.support.fixtures import fixtures_dir

from fondaco.consensus.light import Bisection, NotEnoughTrust, TrustedState, trust, verify
from fondaco.protocol.errors import PeerFault, Refused


def _verdict(
    trusted: TrustedState[CometValidators], block: CometBlock, *, now: int, period: int
) -> tuple[str, TrustedState[CometValidators]]:
    try:
        return "SUCCESS", verify(trusted, block, now=now, trusting_period=period, clock_drift=0)
    except NotEnoughTrust:
        return "NOT_ENOUGH_TRUST", trusted
    except (Refused, PeerFault):
        return "INVALID", trusted


def test_all_99_verdicts_are_ours_too() -> None:
    files = sorted(fixtures_dir("consensus/light_client_mbt/single_step").glob("*.json"))
    wanted, found = [], []
    for file in files:
        case = json.loads(file.read_text())
        initial = case["initial"]
        trusted = trust(CometBlock.read(initial))
        period = int(initial["trusting_period"])
        for number, step in enumerate(case["input"]):
            block, now = CometBlock.read(step["block"]), nanoseconds(step["now"])
            verdict, trusted = _verdict(trusted, block, now=now, period=period)
            wanted.append((file.name, number, step["verdict"].replace("FAILED_TRUSTING_PERIOD", "INVALID")))
            found.append((file.name, number, verdict))
    assert found == wanted
    assert (len(files), len(found)) == (41, 99)


def test_bisection_takes_the_published_ways() -> None:
    """Files that lead with an underscore are switched off upstream: their hashes are stale."""
    ways = {}
    for file in sorted(fixtures_dir("consensus/light_client_mbt/bisection").glob("single_peer/*.json")):
        if file.name.startswith("_"):
            continue
        case = json.loads(file.read_text())
        blocks = {block.height: block for block in map(CometBlock.read, case["primary"]["lite_blocks"])}
        options = case["trust_options"]
        level = options.get("trust_level") or {"numerator": 1, "denominator": 3}
        search = Bisection(
            trust(blocks[int(options["height"])]),
            int(case["height_to_verify"]),
            trusting_period=int(options["period"]),
            clock_drift=10**10,
            trust_level=(int(level["numerator"]), int(level["denominator"])),
        )
        try:
            while (height := search.needs) is not None:
                search.feed(blocks[height], now=nanoseconds(case["now"]))
            ways[file.name] = "success"
        except (Refused, PeerFault) as error:
            ways[file.name] = error.code
        assert (ways[file.name] == "success") is (case["expected_output"] != "error"), file.name
    assert ways


def test_header_hashes_are_the_published_ones() -> None:
    for file in fixtures_dir("consensus/light_client_mbt/single_step").glob("*.json"):
        header = json.loads(file.read_text())["initial"]["signed_header"]
        assert header_hash(header["header"]).hex().upper() == header["commit"]["block_id"]["hash"]
