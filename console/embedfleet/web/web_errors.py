"""What the HTTP API says where it does not do what was asked: a status, a code, a message."""

from __future__ import annotations

from typing import ClassVar

from embedfleet_schema.errors import EmbedfleetError


class HttpRefusal(EmbedfleetError):
    """The request is refused."""

    status: ClassVar[int] = 400
    # What a program reads; the class's docstring is for people.
    code: ClassVar[str] = "bad_request"


class BadRequest(HttpRefusal):
    """{reason}"""


class NotSignedIn(HttpRefusal):
    """No valid API key came with the request. Send one as: Authorization: Bearer KEY"""

    status = 401
    code = "invalid_api_key"


class ScopeMissing(HttpRefusal):
    """The API key may not do this: it lacks the scope {scope}."""

    status = 403
    code = "scope_missing"


class NotFound(HttpRefusal):
    """There is no {what} {name!r}, or the API key may not see it."""

    status = 404
    code = "not_found"


class TooLarge(HttpRefusal):
    """The body is larger than {most:,} bytes. Send less at once."""

    status = 413
    code = "body_too_large"


class TooSlow(HttpRefusal):
    """The body came too slowly. Send it again."""

    status = 408
    code = "body_too_slow"


class TooMany(HttpRefusal):
    """The API key may make {per_minute} requests a minute, and has. Try again in {seconds} s."""

    status = 429
    code = "rate_limit_exceeded"


class TooBusy(HttpRefusal):
    """Too many requests wait already. Try again in a second."""

    status = 503
    code = "overloaded"
