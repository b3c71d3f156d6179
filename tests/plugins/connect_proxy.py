"""A proxy in the test's process: tunnels with CONNECT, forwards plain requests, by password."""

import base64
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from select import select
from urllib.parse import urlsplit

USER, PASSWORD = "somebody", "s3cret-of-the-proxy"


class ConnectProxy(ThreadingHTTPServer):
    """`asked` are the hosts that it was asked for by who knew the password."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.refused = 0
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ConnectProxy
    protocol_version = "HTTP/1.1"

    def _admitted(self) -> bool:
        given = self.headers.get("Proxy-Authorization", "")
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if given == f"Basic {expected}":
            self.server.asked.append(self.path)
            return True
        self.server.refused += 1
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            self._shovel(upstream)
        self.close_connection = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._admitted():
            return
        parts = urlsplit(self.path)
        with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as upstream:
            lines = [f"POST {parts.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in self.headers.items()]
            lines += ["Connection: close", "", ""]
            upstream.sendall("\r\n".join(lines).encode() + body)
            while piece := upstream.recv(65_536):
                self.wfile.write(piece)
        self.close_connection = True

    def _shovel(self, upstream: socket.socket) -> None:
        ends = {self.connection: upstream, upstream: self.connection}
        with suppress(OSError):
            while True:
                for ready in select(list(ends), [], [])[0]:
                    piece = ready.recv(65_536)
                    if not piece:
                        return
                    ends[ready].sendall(piece)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""
