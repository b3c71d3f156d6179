"""Consoles over the test's fleet: in the test itself, or served to a browser."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embedfleet.fleet import Fleet

TOKEN = "a token for the tests"  # noqa: S105 - not secret
# Where the test's client and its forms come from.
HERE = "http://testserver"


def console_of(fleet: Fleet, *, allow_actions: bool = False) -> Any:
    from embedfleet.web.console import Console
    from embedfleet.web.sessions import Sessions

    return Console(fleet, Sessions(TOKEN), allow_actions=allow_actions)


@contextmanager
def client_of(
    fleet: Fleet, *, allow_actions: bool = False, signed_in: bool = True
) -> Iterator[Any]:
    """A client of a console, which follows no redirect by itself."""
    from starlette.testclient import TestClient

    from embedfleet.web.app import create_app

    app = create_app(console_of(fleet, allow_actions=allow_actions))
    with TestClient(app, HERE, follow_redirects=False) as client:
        client.headers["origin"] = HERE
        if signed_in:
            assert 303 == client.post("/console/login", data={"token": TOKEN}).status_code
        yield client


def csrf_of(client: Any) -> str:
    """What the forms of the client's session carry."""
    return re.search(r'name="csrf" value="([^"]+)"', client.get("/console/money").text)[1]


@contextmanager
def served(fleet: Fleet, *, allow_actions: bool = False) -> Iterator[str]:
    """The address of a console that listens on this machine."""
    import uvicorn

    from embedfleet.web.app import create_app

    app = create_app(console_of(fleet, allow_actions=allow_actions))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
