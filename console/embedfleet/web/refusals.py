"""From errors to answers, in OpenAI's form: nothing of SQL, of paths or of other collections."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet.web.web_errors import HttpRefusal
from embedfleet_schema.database import LockTimeout
from embedfleet_schema.database_errors import DatabaseUnreachable, NotPermitted
from embedfleet_schema.errors import (
    BadArgument,
    BadFilter,
    BadVector,
    CollectionGone,
    EmbedfleetError,
    UnknownCollection,
    UnreadableQuery,
    UsageError,
    WrongType,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)


# What is told of errors, by the first row that fits: the message is the error's own where it speaks
# of the arguments alone, which the client knows.
_TOLD: tuple[tuple[tuple[type[Exception], ...], int, str, str | None], ...] = (
    (
        (UnknownCollection, CollectionGone),
        404,
        "not_found",
        "The collection is not there any more.",
    ),
    (
        (BadArgument, BadFilter, BadVector, WrongType, UnreadableQuery),
        400,
        "bad_request",
        None,
    ),
    ((psycopg.DataError,), 400, "bad_request", "A value cannot be compared or stored."),
    (
        (DatabaseUnreachable, LockTimeout, PoolTimeout, psycopg.OperationalError),
        503,
        "unavailable",
        "The database does not answer now.",
    ),
    ((NotPermitted,), 503, "unavailable", "The console's user may not do this."),
    ((UsageError,), 409, "conflict", "The collection does not take this now ({kind})."),
    ((EmbedfleetError,), 503, "unavailable", "The fleet cannot do this now ({kind})."),
    ((Exception,), 500, "internal_error", "The console failed. Its log says in what."),
)
RETRY_S = 5
AWAY, BROKEN = 503, 500


def answer_to(error: Exception) -> Response:
    """What the client is told of an error."""
    if isinstance(error, HttpRefusal):
        return refusal(error.status, error.code, str(error), error.retry_after_s)
    _, status, code, message = next(row for row in _TOLD if isinstance(error, row[0]))
    kind = type(error).__name__
    if status >= BROKEN:
        # A message of the driver's may quote a text.
        log.error("a request failed: %s", kind, exc_info=log.isEnabledFor(logging.DEBUG))
    said = str(error) if message is None else message.format(kind=kind)
    return refusal(status, code, said, RETRY_S if status == AWAY else None)


def refusal(status: int, code: str, message: str, retry_after_s: int | None = None) -> Response:
    """An error as the `openai` client expects it."""
    from starlette.responses import JSONResponse

    kind = "server_error" if status >= BROKEN else "invalid_request_error"
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return JSONResponse(body, status, headers)


async def of_starlette(_request: Request, error: Exception) -> Response:
    """What is told where the router refuses a path or a method."""
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    words = {404: "There is nothing at this path.", 405: "This path does not take that method."}
    answer = refusal(
        error.status_code,
        "not_found" if error.status_code == 404 else "bad_request",  # noqa: PLR2004
        words.get(error.status_code, "The request is refused."),
    )
    answer.headers.update(error.headers or {})
    return answer
