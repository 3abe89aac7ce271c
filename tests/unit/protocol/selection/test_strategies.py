"""What each strategy prefers, and what it says of it."""

from __future__ import annotations

import pytest
from tests.support.bids import NOW, about, bid
from tests.support.workloads import gpu, group, key, unit, volume

from fondaco.protocol.query import BIDS, matches, parse
from fondaco.protocol.selection import NOTHING_KNOWN, STRATEGIES, Knowledge, Ranking, Weights, balanced, rank

BIDS_OF_THREE = [bid(1, 1_000_000), bid(2, 1_200_000), bid(3, 1_400_000)]


def ranked(name: str, known: Knowledge) -> Ranking:
    return rank(group(), BIDS_OF_THREE, now=NOW, strategy=STRATEGIES[name], known=known)


def order(ranking: Ranking) -> list[int]:
    return [int.from_bytes(one.candidate.provider, "big") for one in ranking.ranked]


def test_fastest_prefers_measured_latency_and_then_the_price() -> None:
    ranking = ranked("fastest", Knowledge(providers={key(2): about(p95=80), key(3): about(p95=20)}))
    assert order(ranking) == [3, 2, 1]
    assert [one.reason.partition(",")[0] for one in ranking.ranked] == [
        "20 ms for 95 of 100",
        "80 ms for 95 of 100",
        "never measured",
    ]


def test_audited_first_counts_attestations() -> None:
    known = Knowledge(providers={key(2): about(audited_by=("Acme",)), key(3): about(audited_by=("Acme", "Bee"))})
    ranking = ranked("audited-first", known)
    assert order(ranking) == [3, 2, 1]
    assert [one.reason.partition(",")[0] for one in ranking.ranked] == [
        "2 attestations",
        "1 attestation",
        "0 attestations",
    ]


def test_spread_goes_where_fewest_replicas_are() -> None:
    providers = {key(1): about("us"), key(2): about("us"), key(3): about("eu")}
    assert order(ranked("spread", Knowledge(providers=providers))) == [1, 2, 3]
    assert order(ranked("spread", Knowledge(providers=providers, used={key(1): 1}))) == [3, 2, 1]
    shaky = providers | {key(3): about("eu", outages=4)}
    assert order(ranked("spread", Knowledge(providers=shaky, used={key(3): 1, key(1): 1}))) == [2, 1, 3]
    assert "0 in region unknown" in ranked("spread", NOTHING_KNOWN).ranked[0].reason


def test_balanced_weighs_price_against_latency_reliability_and_audits() -> None:
    known = Knowledge(
        providers={
            key(1): about(p95=900, uptime=900, outages=3),
            key(2): about(p95=30, uptime=999, outages=0, audited_by=("Acme",)),
            key(3): about(),
        }
    )
    ranking = ranked("balanced", known)
    assert order(ranking) == [2, 1, 3]
    assert ranking.ranked[0].reason.startswith(
        "score 300 of 1,000: price 500, latency 0 (30 ms for 95 of 100), reliability 1, audits 500; 1.20/h"
    )
    assert "reliability 400" in ranking.ranked[1].reason
    assert "latency 1000, reliability 500, audits 1000" in ranking.ranked[2].reason


def test_weights_decide() -> None:
    known = Knowledge(providers={key(3): about(p95=1)})
    by_latency = Weights(price=0, latency=1, reliability=0, audits=0)
    scores = balanced(group(), BIDS_OF_THREE, known, weights=by_latency)
    assert [one.key[0] for one in scores] == [1_000, 1_000, 0]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_scores_every_bid_and_takes_none_and_equals(name: str) -> None:
    assert rank(group(), [], now=NOW, strategy=STRATEGIES[name]).best is None
    same = [bid(number, 700_000) for number in range(1, 5)]
    ranking = rank(group(), same, now=NOW, strategy=STRATEGIES[name])
    assert [one.candidate for one in ranking.ranked] == sorted(same, key=lambda one: one.id)
    assert all("0.70/h, 65 % below the maximum" in one.reason for one in ranking.ranked)


def test_a_bid_is_a_subject_of_queries_with_all_that_is_known() -> None:
    gpus = unit(count=3, gpus=2, models=gpu("a100/ram/80Gi/interface/sxm"), volumes=(volume(size=5),))
    one = bid(1, 1_500_000, units=(gpus,))
    facts = about("us-west", p95=40, uptime=998, outages=1, audited_by=("Acme",), organization="Mills", tee="tdx")
    subject = one.subject(facts, NOW)
    for text in (
        "provider = mills and price = 1.5 and gpu.units = 6 and notice = 0 and expires = 1s",
        "gpu.model = a100 and gpu.vendor = nvidia and gpu.ram in 40GB..80GB and gpu.interface = sxm",
        "latency.p50 = 20 and latency.p95 = 40 and latency.p99 = 80 and uptime.7d = 99.8%",
        "audited by acme and attestations = 1 and outages = 1 and tee = tdx and attribute.region = us-west",
        "provider = fond1*",
    ):
        assert matches(parse(text, BIDS), subject), text
    assert not matches(parse("uptime.1d > 0", BIDS), subject)
    assert subject.get("cpu") == 3 * gpus.resources.cpu_milli
    assert subject.get("memory") == 3 * gpus.resources.memory_bytes
    assert subject.get("storage") == 15
