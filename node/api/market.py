"""Routes over the market database: lists of all it has, its canned queries, and `why`."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import trio
from fastapi import FastAPI, Path, Query

from fondaco.node.api.listing import LISTS, STATES, Asked, Listing, bounded, page
from fondaco.node.api.models import Page, model_of, row_model
from fondaco.node.app import Node
from fondaco.node.market.queries import QUERIES, ask
from fondaco.node.market.why import Answer, Sources, why
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

MOST = 2**62
Text = Annotated[str, Query(max_length=200)]
Count = Annotated[int, Query(ge=0, le=MOST)]


class Questions:
    """Asks the database of one node in threads, a few at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limiter = trio.CapacityLimiter(limits.MARKET_QUERIES)

    async def rows(self, question: Callable[[sqlite3.Connection], Any]) -> Any:
        """Raises `Refused` `market.off`, `market.none` or `market.slow`."""
        market = self._market()

        def work() -> Any:
            connection = bounded(market.database)
            try:
                return question(connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                    raise
                raise Refused(
                    "market.slow", f"it took longer than {limits.MARKET_QUERY_MS} ms", hint="ask for less"
                ) from None
            finally:
                connection.close()

        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def why(self, text: str) -> Answer:
        """Raises `Refused` `why.*` or `market.*`."""
        data = self._market().folder.parent

        def work() -> Answer:
            with Sources.open(data) as sources:
                return why(sources, text)

        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _market(self) -> Any:
        if self._node.market is None:
            raise Refused("market.off", "this node keeps no market", hint="set market = true in its node.toml")
        return self._node.market


def serve_market(app: FastAPI, node: Node) -> None:
    questions = Questions(node)
    for name, listing in LISTS.items():
        app.get(
            f"/market/{name}",
            response_model=Page[row_model(listing.table)],  # type: ignore[misc]
            name=f"market_{name}",
            description=f"{listing.table.meaning} Of the {listing.table.source}.",
        )(_endpoint(questions, listing))

    @app.get("/market/queries/{name}", response_model=list[dict[str, int | str | None]])
    async def query(
        name: Annotated[Literal[tuple(QUERIES)], Path()],  # type: ignore[valid-type]
        days: Annotated[int, Query(ge=1, le=36_500, description="so far back from the newest block")] = 30,
    ) -> Any:
        """The rows of a canned query; what each means is in the metadata beside the database."""
        return await questions.rows(lambda connection: ask(connection, name, {"days": days}))

    @app.get("/why/{identity}", response_model=model_of(Answer))
    async def explain(identity: Annotated[str, Path(max_length=200)]) -> Any:
        """The causal chain of an id, or of its beginning, as `fondaco why` tells it."""
        return asdict(await questions.why(identity))


def _endpoint(questions: Questions, listing: Listing) -> Callable[..., Any]:
    """The handler of one list, with a parameter for everything that may be asked of it."""

    async def endpoint(**given: Any) -> Any:
        asked = Asked(
            sort=given["sort"],
            descending=given["order"] == "desc",
            limit=given["limit"],
            cursor=given["cursor"],
            equals={name: given[name] for name in listing.equals if given[name] is not None},
            bounds={name: given[name] for name in _bounds(listing) if given[name] is not None},
            mentions=given.get("mentions"),
        )
        return await questions.rows(lambda connection: page(connection, listing, asked))

    parameters: dict[str, tuple[Any, Any]] = {
        "limit": (Annotated[int, Query(ge=1, le=limits.MARKET_ROWS)], 100),
        "cursor": (Annotated[str | None, Query(max_length=1_000, description="`next` of the page before")], None),
        "sort": (Literal[listing.sorts], listing.sorts[0]),
        "order": (Literal["asc", "desc"], "asc"),
        **{name: (_kind(listing, name) | None, None) for name in listing.equals},
        **dict.fromkeys(_bounds(listing), (Count | None, None)),
    }
    if listing.mentions:
        parameters["mentions"] = (Annotated[str | None, Query(max_length=200, description="an id it names")], None)
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in parameters.items()
        ]
    )
    return endpoint


def _kind(listing: Listing, name: str) -> Any:
    states = STATES.get((listing.table.name, name))
    return Text if states is None else Literal[states]


def _bounds(listing: Listing) -> list[str]:
    times = ["since_ms", "until_ms"] if listing.time else []
    return times + (["min_price", "max_price"] if listing.price else [])
