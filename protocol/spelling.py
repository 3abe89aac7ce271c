"""What somebody may have meant to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SIMILAR = 0.6
CHARACTERS = 64
WORDS = 256


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of `known` that is most like `word`; None if none is like it.

    Only so much is compared, so that a hostile word does not cost quadratic time.
    """
    found = difflib.get_close_matches(word[:CHARACTERS], list(known)[:WORDS], n=1, cutoff=SIMILAR)
    return found[0] if found else None
