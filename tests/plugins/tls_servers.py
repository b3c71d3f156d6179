"""TLS in front of real servers, by an authority of the test's own; and a listener."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from plugins.tcp_proxy import TcpProxy

TlsFront = Callable[..., str]


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    ca: trustme.CA
    file: Path

    def context(self, *names: str) -> ssl.SSLContext:
        """For a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def write(self, folder: Path, *names: str) -> tuple[Path, Path]:
        """The key and the certificate of such a server, as files that only their owner reads."""
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        issued = self.ca.issue_cert(*names)
        for path in (key, certificate):
            path.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        return key, certificate


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, file)


@pytest.fixture
def tls_front(authority: Authority) -> Iterator[TlsFront]:
    """Puts TLS before the server of a redis:// URL; gives the rediss:// URL, without options."""
    started: list[TcpProxy] = []

    def make(url: str, *, name: str = "localhost", scheme: str = "rediss") -> str:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        started.append(TcpProxy(parts.hostname, parts.port, authority.context(name)))
        account = parts.netloc.rpartition("@")[0]
        netloc = f"{account}@localhost:{started[-1].port}"
        return parts._replace(scheme=scheme, netloc=netloc).geturl()

    yield make
    for each in started:
        each.close()


class Listener:
    """Takes connections, keeps the first bytes of each, and hangs up."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.heard: list[bytes] = []
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="listener")
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                if self._closing:
                    return
                raise
            # Whoever hangs up or says nothing is no reason to miss the next one.
            with client, contextlib.suppress(OSError):
                client.settimeout(10)
                self.heard.append(client.recv(65_536))

    def close(self) -> None:
        self._closing = True
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()
