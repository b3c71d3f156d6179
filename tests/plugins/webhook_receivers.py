"""A real HTTP server in the test's process that takes webhooks and answers as it is told."""

import hmac
import json
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from embedfleet.fleet import Fleet

# The one of the standard's own example.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_signed(self) -> bool:
        """As a receiver checks it, by the document of the standard."""
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
        key = b64decode(SECRET.removeprefix("whsec_"))
        wanted = b64encode(hmac.new(key, content + self.body, sha256).digest()).decode()
        return f"v1,{wanted}" in self.headers["webhook-signature"].split()


@dataclass
class Receiver:
    """Answers with the `answers` one after the other, then with 204."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    # Not before this is set; what waits for it is what a slow receiver makes wait.
    ready: threading.Event = field(default_factory=threading.Event)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hook?token=t0k3n"


@pytest.fixture
def local(fleet: Fleet) -> Iterator[Fleet]:
    """The test's fleet, whose webhooks may go to this machine."""
    with Fleet(fleet.settings.model_copy(update={"webhook_private": True})) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    """Makes receivers; with a `context` they speak TLS."""
    started: list[tuple[ThreadingHTTPServer, threading.Thread, Receiver]] = []

    def make(*answers: int, context: ssl.SSLContext | None = None) -> Receiver:
        found = Receiver(answers=list(answers), scheme="https" if context else "http")
        found.ready.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                found.received.append(Received(self.path, headers, body))
                found.ready.wait(60)
                self.send_response(found.answers.pop(0) if found.answers else 204)
                self.send_header("location", f"http://127.0.0.1:{found.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("localhost", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, name="webhook receiver")
        thread.start()
        started.append((server, thread, found))
        return found

    yield make
    for server, thread, found in started:
        found.ready.set()
        server.shutdown()
        server.server_close()
        thread.join()
