"""Why a peer is not there, from what is known of it alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.support.children import ROOT

from fondaco.node.net import span
from fondaco.node.net.bans import BanRow
from fondaco.node.net.peers import Queue, Score
from fondaco.node.net.standing import Dialling, Gone, Rules, Source, Standing, Topical
from fondaco.node.net.why import Answer, Reason, why
from fondaco.node.net.words import why_lines

RULES = Rules(gossip_threshold=-40, publish_threshold=-80, graylist_threshold=-160, degree_low=5, degree_high=12)
FLAWLESS = Score(total=3.0, p1=1.0, p2=2.0, p3=0.0, p3b=0.0, p4=0.0, cap=0.0, p5=0.0, p6=0.0, p7=0.0)
IN_MESH = Topical(topic="orders", wanted=True, in_mesh=True, members=3, subscribers=3, backoff_ms=0)
OUTSIDE = replace(IN_MESH, in_mesh=False)
WELL = Standing(
    peer="12D3",
    rules=RULES,
    sources=(Source(name="contact"),),
    connected=True,
    speaks_gossip=True,
    link_up=True,
    heard=True,
    score=FLAWLESS,
    topics=(IN_MESH,),
    queues=(Queue(link="gossip", frames=0, bytes=0, shed=0, sent=9),),
)
AWAY = Standing(peer="12D3", rules=RULES)
PLACE = "/ip4/198.51.100.7/tcp/4001/p2p/12D3"
KNOWN = replace(AWAY, sources=(Source(name="node.toml", addresses=(PLACE,)),))
REFUSED = Dialling(failures=1, error="refused", failed_ms_ago=3_000, next_in_ms=250)


def only(at: Standing) -> Reason:
    (reason,) = why(at).reasons
    return reason


def codes(at: Standing) -> list[str]:
    return [reason.code for reason in why(at).reasons]


def scored(total: float, **parts: float) -> Standing:
    return replace(WELL, score=replace(FLAWLESS, total=total, **parts))


def test_nothing_is_said_of_a_peer_that_is_where_it_should_be() -> None:
    assert why(WELL) == Answer(
        peer="12D3", connected=True, known_from=("contact",), in_mesh=("orders",), reasons=(), clear=True
    )


def test_what_is_no_other_peer_is_said_first_and_alone() -> None:
    assert codes(replace(AWAY, malformed="'x' is not the peer id of an ed25519 key")) == ["peer.malformed"]
    assert codes(replace(AWAY, own=True)) == ["peer.own"]


@pytest.mark.parametrize(
    ("at", "code", "words"),
    [
        (AWAY, "peer.unknown", "never heard"),
        (replace(AWAY, sources=(Source(name="contact"),)), "peer.no_address", "known from contact"),
        (KNOWN, "dial.none", PLACE),
        (
            replace(KNOWN, dialling=REFUSED),
            "dial.failed",
            "1 time in a row, the last 3 s ago: refused; next try in",
        ),
        (replace(KNOWN, dialling=replace(REFUSED, next_in_ms=0)), "dial.failed", "being tried now"),
        (replace(KNOWN, dialling=replace(REFUSED, next_in_ms=None)), "dial.failed", "nobody tries again"),
        (replace(KNOWN, dialling=replace(REFUSED, failures=0)), "dial.soon", "next try in 250 ms"),
        (replace(WELL, speaks_gossip=False), "gossip.protocol", "gossipsub"),
        (replace(WELL, link_up=False), "gossip.no_stream", "it hears nothing"),
        (replace(WELL, heard=False), "gossip.no_inbound", "we hear nothing"),
        (replace(WELL, topics=(replace(OUTSIDE, wanted=False),)), "topic.unwanted", "subscribe to orders"),
        (replace(WELL, topics=(replace(OUTSIDE, backoff_ms=61_000),)), "mesh.backoff", "another 61 s"),
        (replace(WELL, topics=(replace(OUTSIDE, members=6, subscribers=13),)), "mesh.full", "6 members"),
        (replace(WELL, topics=(OUTSIDE,)), "mesh.soon", "a heartbeat grafts it"),
        (scored(-20.5, p4=-22.0), "score.negative", "-22.0 of it for invalid messages (P4)"),
        (scored(-45.0, p6=-45.0), "score.unheeded", "below -40"),
        (scored(-90.0, p7=-90.0), "score.unpublished", "broken promises"),
        (scored(-161.0, p4=-180.0, p7=-10.0), "score.graylisted", "-180.0 of it for invalid messages"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_each_reason_has_a_code_and_its_numbers(at: Standing, code: str, words: str) -> None:
    reason = only(at)
    assert reason.code == code
    assert words in reason.message
    assert not why(at).clear


def test_bans_come_with_who_and_until_when() -> None:
    hand = BanRow(subject="12D3", reason="spam", by="operator", since=0, until=9, left_ms=90_000)
    net = replace(hand, subject="198.51.100.0/24", by="faults")
    peer, network, unknown = why(replace(AWAY, bans=(hand, net))).reasons
    assert (peer.code, peer.message) == ("ban.peer", "12D3 is banned by hand for another 90 s: spam")
    assert network.code == "ban.network"
    assert "for its faults" in network.message
    assert unknown.code == "peer.unknown"
    assert codes(replace(WELL, bans=(hand,))) == ["ban.peer"], "said of who is connected still, too"


def test_a_connection_that_ended_says_how() -> None:
    reasons = why(replace(KNOWN, gone=Gone(ms_ago=5_000, dropped="it did not answer a ping"))).reasons
    assert [reason.code for reason in reasons] == ["peer.left", "dial.none"]
    assert "5 s ago, we ended it: it did not answer a ping" in reasons[0].message
    assert "not by us" in why(replace(KNOWN, gone=Gone(ms_ago=1, dropped=""))).reasons[0].message


def test_everything_that_applies_is_said_in_order() -> None:
    bad = replace(
        scored(-100.0, p4=-100.0),
        heard=False,
        topics=(replace(OUTSIDE, backoff_ms=5, members=12, subscribers=20), replace(OUTSIDE, wanted=False)),
        queues=(Queue(link="gossip", frames=7, bytes=700, shed=2, sent=1),),
        faults=("a", "b"),
    )
    assert codes(bad) == [
        "gossip.no_inbound",
        "score.unpublished",
        "mesh.backoff",
        "mesh.full",
        "topic.unwanted",
        "queue.shed",
        "peer.faults",
    ]


def test_what_hinders_nothing_leaves_a_peer_clear() -> None:
    shed = Queue(link="consensus", frames=0, bytes=0, shed=1, sent=1)
    answer = why(replace(WELL, queues=(shed,), faults=("nonsense",)))
    assert answer.clear
    assert [reason.code for reason in answer.reasons] == ["queue.shed", "peer.faults"]
    assert "1 frame of consensus" in answer.reasons[0].message


def test_a_part_that_lifts_a_score_is_not_blamed() -> None:
    assert only(scored(-5.0, p5=-5.0, p1=40.0)).figures["p5"] == -5.0


def test_the_guide_says_what_to_do_about_every_code() -> None:
    source = (ROOT / "node/net/why.py").read_text(encoding="utf-8")
    guide = (ROOT / "docs/how-to/monitor.md").read_text(encoding="utf-8")
    found = set(re.findall(r'"((?:peer|dial|gossip|score|topic|mesh|queue)\.\w+)"', source))
    assert len(found) > 15
    assert all(f"`{code}`" in guide for code in {*found, "ban.peer", "ban.network"})


def test_people_read_it_line_by_line() -> None:
    told: Any = {
        "peer": "12D3",
        "connected": False,
        "known_from": ["node.toml"],
        "in_mesh": ["orders"],
        "clear": False,
        "reasons": [{"hinders": "connection", "message": "nobody dials it", "code": "dial.none"}],
    }
    assert list(why_lines(told)) == [
        "12D3: not connected; known from node.toml",
        "  in the mesh of orders",
        "  not connected: nobody dials it [dial.none]",
    ]
    clear = {**told, "connected": True, "known_from": [], "in_mesh": [], "reasons": [], "clear": True}
    assert list(why_lines(clear)) == ["12D3: connected", "  nothing is in its way"]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "2 s"),
        (119_000, "119 s"),
        (150_000, "2 min 30 s"),
        (8e6, "2 h 13 min"),
    ],
)
def test_spans_are_read_as_people_say_them(ms: float, text: str) -> None:
    assert span(ms) == text
