"""Exceptions that come out of nurseries in groups, as the one error that a caller can act on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fondaco.protocol.errors import FondacoError


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Let the first `FondacoError` out of its groups, where nothing worse is in there with it.

    A bug of ours that went off beside it is never hidden: then the group passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        ours, others = group.split(FondacoError)
        if ours is None or others is not None:
            raise
        error: BaseException = ours
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups; an error by itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
