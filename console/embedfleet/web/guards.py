"""What stands before all routes: the host's name, how many come at a time, what an error says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from embedfleet.web.embeddings import ClientGone
from embedfleet.web.refusals import answer_to, refusal
from embedfleet.web.web_errors import TooBusy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

# Requests at a time; the next ones are told to come again.
MOST_REQUESTS = 1_000
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
# A page may say otherwise.
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}


class Guard:
    """Wraps the application.

    `hosts`: what a browser may have asked for, None for anything. Where only this machine is
    served, a foreign name means that somebody's page points its own name here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = Answer(send)
        if not self._is_for_us(scope):
            wrong = refusal(421, "wrong_host", "This host name is not served here.")
            await wrong(scope, receive, answer.send)
        elif self._running >= MOST_REQUESTS:
            await answer_to(TooBusy())(scope, receive, answer.send)
        else:
            self._running += 1
            try:
                await self._answered(scope, receive, answer)
            finally:
                self._running -= 1

    async def _answered(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        from starlette.requests import ClientDisconnect

        try:
            await self._app(scope, receive, answer.send)
        except (ClientGone, ClientDisconnect):
            return
        except Exception as error:  # noqa: BLE001 - the last stop: a client gets an answer
            if answer.begun:
                log.warning("an answer broke off: %s", type(error).__name__)
            else:
                await answer_to(error)(scope, receive, answer.send)

    def _is_for_us(self, scope: Scope) -> bool:
        if self._hosts is None:
            return True
        named = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        return _without_port(named) in self._hosts


class Answer:
    """What goes to a client, with headers for all of it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS.items() if name not in given]
            message["headers"] = [*message["headers"], *more]
        await self._send(message)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
