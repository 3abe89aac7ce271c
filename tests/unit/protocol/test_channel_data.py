"""What flows through an open lease channel: credit, ends, failures, and whatever a peer may send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.channels import code_of, opened, server

from fondaco.protocol import codec, limits
from fondaco.protocol.channel import State
from fondaco.protocol.channel_events import Credited, Ended, Failed, Received
from fondaco.protocol.channel_frames import DATA_BYTES, Credit, Data
from fondaco.protocol.errors import PeerFault, Refused, Unreachable


def test_data_flows_both_ways_and_each_direction_ends_by_itself() -> None:
    tenant, provider = opened()
    assert provider.receive(tenant.data(b"question")) == (Received(data=b"question"),)
    assert provider.receive(tenant.end()) == (Ended(),)
    assert not tenant.may_send
    assert provider.may_send
    assert tenant.receive(provider.data(b"answer")) == (Received(data=b"answer"),)
    assert tenant.receive(provider.end()) == (Ended(),)
    assert tenant.state is State.OVER
    assert provider.state is State.OVER
    assert provider.receive(codec.encode(Credit(size=1))) == ()


def test_data_after_the_end_is_a_fault() -> None:
    tenant, provider = opened()
    late = tenant.data(b"late")
    provider.receive(tenant.end())
    with pytest.raises(PeerFault):
        provider.receive(late)


def test_a_sender_stops_without_credit_and_goes_on_once_it_was_given_back() -> None:
    tenant, provider = opened()
    sent = []
    while tenant.may_send:
        sent.append(tenant.data(bytes(DATA_BYTES)))
    assert len(sent) == 2
    credits = []
    for frame in sent:
        (event,) = provider.receive(frame)
        assert isinstance(event, Received)
        credits.append(provider.consumed(event.data))
    assert any(credits)
    for credit in filter(None, credits):
        assert tenant.receive(credit) == (Credited(),)
    assert tenant.may_send


def test_a_peer_that_sends_beyond_its_credit_is_at_fault() -> None:
    _, provider = opened()
    frame = codec.encode(Data(data=bytes(DATA_BYTES)))
    for _ in range(2):
        provider.receive(frame)
    with pytest.raises(PeerFault) as error:
        provider.receive(frame)
    assert code_of(error) == "channel.window"


def test_a_flood_of_empty_frames_uses_credit_up() -> None:
    _, provider = opened()
    frame = codec.encode(Data(data=b""))
    for _ in range(limits.CHANNEL_WINDOW_BYTES // limits.CHANNEL_ITEM_OVERHEAD_BYTES):
        provider.receive(frame)
    with pytest.raises(PeerFault):
        provider.receive(frame)


def test_a_peer_that_gives_back_more_credit_than_was_spent_is_at_fault() -> None:
    tenant, _ = opened()
    with pytest.raises(PeerFault) as error:
        tenant.receive(codec.encode(Credit(size=1)))
    assert code_of(error) == "channel.window"


def test_credit_is_not_given_for_a_direction_that_has_ended() -> None:
    tenant, provider = opened()
    frames = [tenant.data(bytes(DATA_BYTES)) for _ in range(2)]
    chunks = [event.data for frame in frames for event in provider.receive(frame) if isinstance(event, Received)]
    provider.receive(tenant.end())
    assert [provider.consumed(chunk) for chunk in chunks] == [None, None]


def test_a_failure_ends_the_call_and_keeps_its_kind() -> None:
    tenant, provider = opened()
    (failed,) = tenant.receive(provider.fail(Unreachable("forward.broken", "x" * 9_000, hint="ü" * 9_000)))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Unreachable)
    assert len(failed.error.message) == limits.TEXT_BYTES // 4
    assert tenant.state is State.OVER
    assert not tenant.may_send


@given(st.binary(max_size=300))
def test_no_bytes_reach_an_assertion(data: bytes) -> None:
    for session in (server(), opened()[0], opened()[1]):
        with contextlib.suppress(PeerFault, Refused):
            session.receive(data)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, DATA_BYTES)), max_size=40))
def test_unread_data_never_exceeds_the_window_and_one_frame(steps: list[tuple[bool, int]]) -> None:
    """Whatever the pattern of sending and reading, and every byte arrives."""
    tenant, provider = opened()
    unread: list[bytes] = []
    for reads, size in steps:
        if reads and unread:
            credit = provider.consumed(unread.pop(0))
            if credit:
                tenant.receive(credit)
        elif tenant.may_send:
            (event,) = provider.receive(tenant.data(bytes(size)))
            assert isinstance(event, Received)
            unread.append(event.data)
        assert sum(map(len, unread)) <= limits.CHANNEL_WINDOW_BYTES + DATA_BYTES
