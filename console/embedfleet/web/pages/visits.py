"""One visit of a browser: who it is, what it asks for, and how it is answered.

A handler is a plain function from a visit to a page or a redirect. It may block: it runs in a
thread of the console.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from embedfleet.fleet import Fleet
from embedfleet.web.console import Console
from embedfleet.web.pages.rendering import HEADERS, ROOT, Page, Redirect, at, rendered
from embedfleet.web.sessions import Session, Sessions
from embedfleet.web.web_errors import HttpRefusal
from embedfleet_schema.database_errors import DatabaseError
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.errors import (
    CollectionGone,
    EmbedfleetError,
    UnknownCollection,
    UnknownJob,
    UsageError,
)
from embedfleet_schema.store.keys import can_be
from embedfleet_schema.types import LARGEST_ID

# Of a form.
MOST_FIELDS, MOST_BYTES = 20, 100_000
# How long who gave a wrong token waits for the answer.
WRONG_TOKEN_S = 1.0


@dataclass(frozen=True, slots=True)
class Visit:
    """What a browser asks for. `given` is the query, or the form of an action."""

    console: Console
    parts: Mapping[str, Any]
    given: Mapping[str, str]

    @property
    def fleet(self) -> Fleet:
        return self.console.fleet

    def text(self, name: str, default: str = "") -> str:
        """What was typed, without the blanks around it.

        Raises:
            UsageError: PostgreSQL has no such text.
        """
        typed = self.given.get(name, default).strip()
        if not can_be(typed):
            raise UsageError(reason=f"{name} is Unicode text without NUL")
        return typed

    def number(
        self, name: str, default: int | None = None, *, most: int = LARGEST_ID
    ) -> int | None:
        """A whole number above 0; the default where nothing is given.

        Raises:
            UsageError: it is none.
        """
        typed = self.text(name)
        if not typed:
            return default
        if not (typed.isascii() and typed.isdecimal()) or not 1 <= int(typed[:20]) <= most:
            raise UsageError(reason=f"{name} is a whole number from 1 to {most:,}")
        return int(typed)


Handler = Callable[[Visit], Page | Redirect]
Endpoint = Callable[[Request], Awaitable[Response]]


def page(console: Console, handler: Handler) -> Endpoint:
    """The endpoint of a page that is looked at."""

    async def endpoint(request: Request) -> Response:
        session = _sessions(console).of(request)
        if session is None:
            return _to_login(request)
        return await _answer(console, handler, request, session, dict(request.query_params))

    return endpoint


def action(console: Console, handler: Handler) -> Endpoint:
    """The endpoint of a form that changes something: sent from a page of ours, where that is
    allowed.
    """

    async def endpoint(request: Request) -> Response:
        session = _sessions(console).of(request)
        if session is None:
            return _to_login(request)
        form = await _form_of(request)
        own = _sessions(console).is_own_form(request, form.get("csrf", ""))
        if not own or not _is_own_origin(request):
            return _refused(console, session, "This form does not come from a page of yours.")
        if not console.allow_actions:
            reason = "This console only shows. To change anything, start it with --allow-actions."
            return _refused(console, session, reason)
        return await _answer(console, handler, request, session, form)

    return endpoint


def login(console: Console) -> Endpoint:
    """The page that asks for the token, and what takes it."""

    async def endpoint(request: Request) -> Response:
        after = request.query_params.get("after", "")
        # A path of ours, and no other server's address.
        after = after if after.startswith(f"{ROOT}/") else at("overview")
        if request.method != "POST":
            return _show_login(after)
        if not _is_own_origin(request):
            return _show_login(after, "This form does not come from this page.", 403)
        form = await _form_of(request)
        answer = RedirectResponse(after, 303, HEADERS)
        token = form.get("token", "").strip()
        if not _sessions(console).sign_in(token, answer, secure=console.secure):
            await asyncio.sleep(WRONG_TOKEN_S)
            return _show_login(after, "This is not the token.", 403)
        return answer

    return endpoint


def logout(console: Console) -> Endpoint:
    """Ends the session of the browser."""

    async def endpoint(request: Request) -> Response:
        form = await _form_of(request)
        answer = RedirectResponse(at("login"), 303, HEADERS)
        if _sessions(console).is_own_form(request, form.get("csrf", "")):
            _sessions(console).sign_out(request, answer)
        return answer

    return endpoint


def _sessions(console: Console) -> Sessions:
    assert console.sessions is not None  # noqa: S101 - without them there are no pages
    return console.sessions


async def _form_of(request: Request) -> dict[str, str]:
    """The fields of a form; none where it is too large, or none of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=MOST_FIELDS))
    except ValueError:
        return {}


def _is_own_origin(request: Request) -> bool:
    """Whether the browser says that a form was sent from a page of this server. All of them do say
    where one comes from.
    """
    host = request.headers.get("host")
    return bool(host) and urlsplit(request.headers.get("origin", "")).netloc == host


async def _answer(
    console: Console,
    handler: Handler,
    request: Request,
    session: Session,
    given: Mapping[str, str],
) -> Response:
    visit = Visit(console, request.path_params, given)
    common = _common(console, session, request.url.path, given)

    def run() -> Response:
        answer = _answered(handler, visit)
        if isinstance(answer, Redirect):
            return RedirectResponse(answer.to, 303, HEADERS)
        return rendered(answer, common)

    try:
        return await console.calls.run(run)
    except HttpRefusal as refusal:
        return rendered(Page("error.html", {"reason": str(refusal)}, refusal.status), common)


def _answered(handler: Handler, visit: Visit) -> Page | Redirect:
    """What the handler says, or a page with its error."""
    try:
        with translated(visit.fleet.db):
            return handler(visit)
    except EmbedfleetError as error:
        return Page("error.html", {"reason": str(error)}, _status_of(error))


def _status_of(error: EmbedfleetError) -> int:
    if isinstance(error, UnknownCollection | UnknownJob | CollectionGone):
        return 404
    if isinstance(error, UsageError):
        return 400
    return 503 if isinstance(error, DatabaseError) else 500


def _common(
    console: Console, session: Session, path: str, given: Mapping[str, str]
) -> dict[str, Any]:
    """What the frame around all pages is told."""
    return {
        "csrf": session.csrf,
        "may_act": console.allow_actions,
        "section": path.removeprefix(ROOT).strip("/").partition("/")[0],
        "here": path + ("?" + at(**given).partition("?")[2] if given else ""),
        "signed_in": True,
    }


def _to_login(request: Request) -> Response:
    if "hx-request" in request.headers:
        # A page that renews itself is loaded anew, which leads to the login.
        return Response("", 401, {**HEADERS, "HX-Refresh": "true"})
    after = request.url.path if request.method == "GET" else ""
    if after and request.url.query:
        after += f"?{request.url.query}"
    return RedirectResponse(at("login", after=after), 303, HEADERS)


def _show_login(after: str, problem: str = "", status: int = 200) -> Response:
    told = {"after": after, "problem": problem}
    common = {"signed_in": False, "section": "", "here": "", "csrf": "", "may_act": False}
    return rendered(Page("login.html", told, status), common)


def _refused(console: Console, session: Session, reason: str) -> Response:
    common = _common(console, session, ROOT, {})
    return rendered(Page("error.html", {"reason": reason}, 403), common)
