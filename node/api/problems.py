"""Whatever goes wrong is told as JSON with a stable code, and the OpenAPI document says so for every route."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fondaco.node.api.models import Problem
from fondaco.protocol.errors import FondacoError, Refused

BAD_REQUEST, NOT_OPERATOR, NOT_FOUND, BUSY = 400, 401, 404, 503
STATUS = {
    "api.not_found": NOT_FOUND,
    "api.operator": NOT_OPERATOR,
    "why.unknown": NOT_FOUND,
    "market.off": NOT_FOUND,
    "market.none": BUSY,
    "node.unhealthy": BUSY,
    "market.slow": BUSY,
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    BAD_REQUEST: {"model": Problem, "description": "The question is not one, or the rules refuse what was sent."},
    NOT_FOUND: {"model": Problem, "description": "There is no such thing here."},
    BUSY: {"model": Problem, "description": "It cannot be answered now."},
}
"""What any route may answer besides its success."""
OPERATOR: dict[int | str, dict[str, Any]] = {
    NOT_OPERATOR: {"model": Problem, "description": "Only the node's operator may do that."}
}
"""And what those that change something may."""


def not_found(what: str) -> Refused:
    return Refused("api.not_found", f"there is no such {what} here")


def tell_problems(app: FastAPI) -> None:
    @app.exception_handler(FondacoError)
    async def refused(request: Request, error: FondacoError) -> JSONResponse:
        return _answer(STATUS.get(error.code, BAD_REQUEST), error.code, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return _answer(BAD_REQUEST, "api.request", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        # 405 has a header that says what is allowed.
        return _answer(error.status_code, "api.route", str(error.detail), headers=error.headers)


def _answer(status: int, code: str, message: str, hint: str = "", headers: Any = None) -> JSONResponse:
    body = Problem(code=code, message=message, hint=hint).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, without the answers that FastAPI would give to what it refuses: ours are 400."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in made["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                for parameter in operation.get("parameters", []):
                    _without_null(parameter["schema"])
        for name in ("HTTPValidationError", "ValidationError"):
            made["components"]["schemas"].pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema


def _without_null(schema: dict[str, Any]) -> None:
    """A parameter that may be left out cannot be given as null: a query string has no such thing."""
    members = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(members) == 1:
        del schema["anyOf"]
        schema |= members[0]
