"""Who may look at the page: a token that the command makes, and a session for each browser."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedfleet.api_keys import digest

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

COOKIE = "embedfleet_console"
SESSION_S = 12 * 3_600.0
# Of browsers; the one that was signed in first is signed out for the next one.
MOST_SESSIONS = 64


def new_secret() -> str:
    """256 random bits as text that a URL and a header take."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in; `csrf` is what each of its forms must send back."""

    csrf: str
    ends_at: float


class Sessions:
    """In memory: the end of the process signs everybody out. Only hashes are kept."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = digest(token)
        self._clock = clock
        self._open: dict[bytes, Session] = {}

    def sign_in(self, token: str, response: Response, *, secure: bool) -> bool:
        """Give a browser its cookie, if it has the token; `secure`: it came by HTTPS."""
        if not hmac.compare_digest(digest(token), self._token):
            return False
        secret, now = new_secret(), self._clock()
        self._open = {key: each for key, each in self._open.items() if each.ends_at > now}
        while len(self._open) >= MOST_SESSIONS:
            del self._open[next(iter(self._open))]
        self._open[digest(secret)] = Session(new_secret(), now + SESSION_S)
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return True

    def of(self, request: HTTPConnection) -> Session | None:
        """The session of who asks, if there is one."""
        # A dictionary compares the hashes of secrets, which nobody can approach step by step.
        found = self._open.get(digest(request.cookies.get(COOKIE, "")))
        return found if found is not None and found.ends_at > self._clock() else None

    def is_own_form(self, request: HTTPConnection, csrf: str) -> bool:
        """Whether a form that changes something came from a page of this session."""
        found = self.of(request)
        return found is not None and hmac.compare_digest(digest(csrf), digest(found.csrf))

    def sign_out(self, request: HTTPConnection, response: Response) -> None:
        self._open.pop(digest(request.cookies.get(COOKIE, "")), None)
        response.delete_cookie(COOKIE)
