"""A TCP proxy for one server: it forwards, and on demand delays, stalls, resets or refuses.

Given a TLS context, it speaks TLS to its clients, and plainly to the server behind it.
"""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

_NO_LINGER = struct.pack("ii", 1, 0)


class TcpProxy:
    """Listens on a port of its own, in a thread of its own; the methods may be called from any."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._latency_s = 0.0
        self._cut_at: bytes | None = None
        self.cuts = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls))
        self.port = self._server.sockets[0].getsockname()[1]

    def delay(self, seconds: float) -> None:
        """Every piece of data takes so long, in each direction."""
        self._latency_s = seconds

    def stall(self) -> None:
        """Connections stay open and nothing comes through, as when packets get lost."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def reset(self) -> None:
        """Break every open connection; new ones are served."""
        self._loop.call_soon_threadsafe(self._reset)

    def refuse(self) -> None:
        """A partition: break what is open and take nothing new."""
        self._refusing = True
        self.reset()

    def cut_replies_to(self, request: bytes) -> None:
        """Pass the next request that contains these bytes on, and break its connection before the
        answer.
        """
        self._cut_at = request

    def heal(self) -> None:
        self._refusing, self._latency_s, self._cut_at = False, 0.0, None
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _end(self) -> None:
        self._server.close()
        self._reset()
        # The loop's own too: it may be in the middle of a handshake.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What is broken is closed one turn of the loop later, and what lies below TLS after that.
        for _ in range(3):
            await asyncio.sleep(0)

    def _reset(self) -> None:
        for writer in tuple(self._clients):
            _break(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        upstream = None
        try:
            if self._refusing:
                return
            source, upstream = await asyncio.open_connection(*self._target)
            await self._both_ways(reader, writer, source, upstream)
        except (OSError, asyncio.CancelledError):
            # One side is gone, which is what this proxy is for.
            return
        finally:
            self._clients.discard(writer)
            for end in filter(None, (writer, upstream)):
                _break(end)

    async def _both_ways(self, reader, writer, source, upstream) -> None:  # type: ignore[no-untyped-def]
        pumps = [
            asyncio.ensure_future(self._pump(reader, upstream, writer)),
            asyncio.ensure_future(self._pump(source, writer, None)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None,
    ) -> None:
        """`client` is given where requests flow: a cut breaks it."""
        while data := await source.read(65_536):
            await self._flowing.wait()
            if self._latency_s:
                await asyncio.sleep(self._latency_s)
            cut = client is not None and self._cut_at is not None and self._cut_at in data
            if cut and client is not None:
                self._cut_at = None
                self.cuts += 1
                _break(client)
            target.write(data)
            await target.drain()
            if cut:
                # The server gets to act on the request before it sees its client gone.
                await asyncio.sleep(0.2)
                return


def _break(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


ProxyMaker = Callable[[str], tuple[TcpProxy, str]]


@pytest.fixture
def proxy() -> Iterator[ProxyMaker]:
    """Makes proxies: from a server's URL to the proxy, and the URL that leads through it."""
    started: list[TcpProxy] = []

    def make(url: str) -> tuple[TcpProxy, str]:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        started.append(TcpProxy(parts.hostname, parts.port))
        account = parts.netloc.rpartition("@")[0]
        netloc = f"{account}@127.0.0.1:{started[-1].port}"
        return started[-1], parts._replace(netloc=netloc).geturl()

    yield make
    for each in started:
        each.close()
