"""A proof file has no byte that does not matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.proofs import Line, at

from fondaco.consensus.proof import verify_proof
from fondaco.protocol import codec
from fondaco.protocol.errors import FondacoError

LINE = Line(every=10)
FILES = [codec.encode(LINE.proof(key, 15, 35, 40)) for key in (b"lease/3", b"lease/none")]
ANCHORS = [LINE.genesis(), LINE.id(15), LINE.id(35), LINE.id(40)]


@given(
    data=st.data(),
    file=st.sampled_from(FILES),
    anchor=st.sampled_from(ANCHORS),
    change=st.integers(min_value=1, max_value=255),
)
def test_a_proof_with_any_byte_changed_is_refused(data, file, anchor, change) -> None:  # type: ignore[no-untyped-def]
    place = data.draw(st.integers(min_value=0, max_value=len(file) - 1))
    bent = bytearray(file)
    bent[place] ^= change
    assert not _accepted(bytes(bent), anchor)


@given(file=st.sampled_from(FILES), anchor=st.sampled_from(ANCHORS), data=st.data())
def test_a_proof_cut_or_lengthened_is_refused(file, anchor, data) -> None:  # type: ignore[no-untyped-def]
    cut = data.draw(st.integers(min_value=0, max_value=len(file) - 1))
    assert not _accepted(file[:cut], anchor)
    assert not _accepted(file + data.draw(st.binary(min_size=1, max_size=8)), anchor)


def test_the_files_as_they_are_hold() -> None:
    assert all(_accepted(file, anchor) for file in FILES for anchor in ANCHORS)


def test_every_single_byte_of_one_file_matters() -> None:
    file = FILES[0]
    for place in range(len(file)):
        bent = bytearray(file)
        bent[place] ^= 1
        assert not _accepted(bytes(bent), ANCHORS[0]), f"byte {place}"


@given(raw=st.binary(max_size=400))
def test_bytes_that_are_no_proof_are_refused_and_never_a_crash(raw: bytes) -> None:
    assert not _accepted(raw, ANCHORS[0])


def _accepted(raw: bytes, anchor: object) -> bool:
    """Anything but a `FondacoError` escapes and fails the test."""
    try:
        verify_proof(raw, anchor, now=at(40))  # type: ignore[arg-type]
    except FondacoError:
        return False
    return True
