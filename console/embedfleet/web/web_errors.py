"""What the HTTP API says where it does not do what was asked: a status, a code, a message."""

from __future__ import annotations

from typing import ClassVar

from embedfleet_schema.errors import EmbedfleetError


class HttpRefusal(EmbedfleetError):
    """The request is refused."""

    status: ClassVar[int] = 400
    # What a program reads; the class's docstring is for people.
    code: ClassVar[str] = "bad_request"
    # When to come again, in whole seconds.
    retry_after_s: int | None = None


class BadRequest(HttpRefusal):
    """{reason}"""


class TextRefused(HttpRefusal):
    """The model cannot take one of the texts: it knows none of its words, or nothing of it is
    visible.
    """

    code = "text_refused"


class TextTooLong(HttpRefusal):
    """A text has {tokens:,} tokens, the model takes {most:,}. Cut it, or send "truncate": true."""

    code = "context_length_exceeded"


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


class TooSlow(HttpRefusal):
    """The body came too slowly. Send it again."""

    status = 408
    code = "body_too_slow"


class Conflict(HttpRefusal):
    """{reason}"""

    status = 409
    code = "conflict"


class TooLarge(HttpRefusal):
    """The body is larger than {most:,} bytes. Send less at once."""

    status = 413
    code = "body_too_large"


class KeyReused(HttpRefusal):
    """The Idempotency-Key was used before for another request. Choose a new one for each."""

    status = 422
    code = "idempotency_key_reused"


class TooMany(HttpRefusal):
    """The API key may make {per_minute} requests a minute. Try again in {retry_after_s} s."""

    status = 429
    code = "rate_limit_exceeded"


class TooBusy(HttpRefusal):
    """Too many requests wait already. Try again in a second."""

    status = 503
    code = "overloaded"
    retry_after_s = 1


class NotServed(HttpRefusal):
    """No worker embeds texts for this model now: {reason}."""

    status = 503
    code = "no_worker"
    retry_after_s = 5
