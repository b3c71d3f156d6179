"""Serve a console by uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfleet.web.app import create_app
from embedfleet.web.console import Console
from embedfleet.web.guards import LOCAL_HOSTS
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from uvicorn import Config

# What is under way at Ctrl-C may take so long to end.
GRACE_S = 10
# The headers of a request come within this.
HEADERS_S = 15.0
MOST_CONNECTIONS = 2_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where it listens, and how it is reached."""

    host: str = "127.0.0.1"
    port: int = 8780
    # A proxy in front speaks TLS, and says so in X-Forwarded-Proto.
    behind_proxy: bool = False
    certificate: Path | None = None
    key: Path | None = None

    @property
    def secure(self) -> bool:
        return self.behind_proxy or self.certificate is not None

    @property
    def url(self) -> str:
        scheme = "https" if self.certificate is not None else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that a request may be sent to; None for any, where a proxy checks them."""
        return LOCAL_HOSTS if is_loopback(self.host) and not self.secure else None

    def check(self) -> None:
        """Raise UsageError where keys and texts would cross a network unencrypted."""
        if (self.certificate is None) != (self.key is None):
            raise UsageError(reason="TLS needs both --certificate and --private-key.")
        if not self.secure and not is_loopback(self.host):
            raise UsageError(
                reason=f"{self.host} is reached from other machines, so that keys and texts would"
                " cross the network unencrypted. Give --certificate and --private-key, or"
                " --behind-proxy where a proxy speaks TLS, or leave --host away."
            )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(console: Console, address: Address, on_start: Callable[[str], object]) -> None:
    """Serve until Ctrl-C or SIGTERM. `on_start` gets the URL once it listens.

    Raises:
        UsageError: the port is taken, or the address is none of this machine.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - as uvicorn has it
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                on_start(address.url.removesuffix(f":{address.port}") + f":{port}")

    server = Server(config(console, address))
    # uvicorn passes a signal on once it has ended: so the caller cleans up after this one, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        return  # the way to end it; what was under way has ended
    except SystemExit as error:
        reason = f"Nothing can listen at {address.url}: the port is taken, or the address is not"
        raise UsageError(reason=f"{reason} of this machine. Choose another --port.") from error


def _protocol() -> type[Any]:
    """Uvicorn's protocol, which closes a connection whose headers do not come."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Prompt(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._late = self.loop.call_later(HEADERS_S, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waits = self.cycle is None or self.cycle.response_complete
            if not waits:
                self._in_time()
            elif self._late is None:
                self._late = self.loop.call_later(HEADERS_S, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def _in_time(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Prompt


def config(console: Console, address: Address) -> Config:
    """How uvicorn serves a console."""
    import uvicorn

    return uvicorn.Config(
        create_app(console, hosts=address.hosts),
        host=address.host,
        port=address.port,
        log_config=None,
        http=_protocol(),
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        access_log=False,  # paths hold names of collections
        server_header=False,
        proxy_headers=address.behind_proxy,
        forwarded_allow_ips="*" if address.behind_proxy else None,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
