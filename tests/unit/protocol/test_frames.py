import pytest

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.frames import FrameReader, Hello, frame, hello
from fondaco.protocol.scalars import ChainId

CHAIN = ChainId("test-1")


def test_a_frame_is_its_length_and_its_payload() -> None:
    assert frame(b"abc") == b"\0\0\0\3abc"


def test_frames_that_came_together_are_told_apart() -> None:
    assert FrameReader().feed(frame(b"one") + frame(b"") + frame(b"two")) == [b"one", b"", b"two"]


def test_a_frame_that_came_in_single_bytes_is_put_together() -> None:
    reader = FrameReader()
    found = [payload for byte in frame(b"slowly") for payload in reader.feed(bytes([byte]))]
    assert found == [b"slowly"]
    assert reader.buffered == 0


def test_a_frame_too_long_is_a_fault_as_soon_as_it_is_announced() -> None:
    reader = FrameReader(limit=10)
    assert reader.feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(PeerFault, match=r"frame\.too_large"):
        reader.feed((11).to_bytes(4, "big"))


def test_no_frame_is_made_that_the_other_side_would_refuse() -> None:
    with pytest.raises(Refused, match=r"frame\.too_large"):
        frame(b"x" * (limits.FRAME_BYTES + 1))


def test_a_hello_survives_the_codec() -> None:
    ours = hello(CHAIN, note=b"validator")
    assert codec.decode(codec.encode(ours), Hello) == ours


def test_a_peer_of_our_chain_is_welcome() -> None:
    hello(CHAIN).check(hello(CHAIN, note=b"whatever"))


def test_a_peer_of_another_chain_is_refused_without_being_at_fault() -> None:
    with pytest.raises(Refused, match=r"hello\.chain"):
        hello(CHAIN).check(hello(ChainId("other-1")))


def test_a_peer_of_another_version_is_refused() -> None:
    theirs = Hello(version=2, chain=CHAIN, frame_bytes=1, note=b"")
    with pytest.raises(Refused, match=r"hello\.version"):
        hello(CHAIN).check(theirs)


def test_bytes_that_are_no_hello_are_malformed() -> None:
    with pytest.raises(Malformed):
        codec.decode(b"GET / HTTP/1.1", Hello)
