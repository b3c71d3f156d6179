"""Celery's way to Redis: through our address, and for rings only.

Celery and kombu never see the URL. They would read it in their own way (a transport set by name
loses the scheme, so that `rediss://` is spoken in plain text), check no certificate, and print it.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from celery.app.amqp import AMQP
from kombu import connection as connections
from kombu.transport import redis
from redis import ConnectionPool
from redis.exceptions import ResponseError

from embedfleet_schema.redis_clients import connection_class, pool
from embedfleet_schema.redis_url import RedisAddress
from embedfleet_schema.rings import ring_of

log = logging.getLogger(__name__)

ADDRESS = "address"
# As long as an empty queue is waited for.
REST_S = 1.0
_LIMITS = (
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "health_check_interval",
    "max_connections",
)


class RingClient(redis.PrefixedStrictRedis):
    """Pops rings, and nothing else."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:  # noqa: ANN401
        if command_name != "BRPOP":
            return self._parsed(connection, command_name, **options)
        try:
            popped = self._parsed(connection, command_name, **options)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            log.error("the key of a queue holds something else: delete it in Redis")  # noqa: TRY400
            time.sleep(REST_S)
            return None
        if not popped:
            return None
        key, entry = popped
        queue = key.decode(errors="replace")
        ring = ring_of(entry, queue)
        if ring is None:
            # Its size only: nobody knows what somebody put there.
            log.error(
                "queue %s: dropped an entry of %d bytes that is not one of our messages",
                queue,
                len(entry),
            )
            return None
        return key, ring

    def _parsed(self, *call: Any, **options: Any) -> Any:  # noqa: ANN401
        return super().parse_response(*call, **options)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """kombu's channel over connections of ours.

    It keeps no book of what was heard and not answered: such a book in Redis would be read back as
    messages, whoever wrote them, and a ring that is lost is rung again by the sweeper.
    """

    ack_emulation = False
    priority_steps = [0]  # noqa: RUF012 - kombu's own type
    from_transport_options = (*redis.Channel.from_transport_options, ADDRESS)  # type: ignore[assignment]
    address: RedisAddress

    def _get_client(self) -> Any:  # noqa: ANN401 - what makes a client of a pool
        return partial(RingClient, global_keyprefix=self.global_keyprefix)

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        limits = {name: getattr(self, name) for name in _LIMITS}
        made = pool(self.address, limits, self._watched() if asynchronous else None)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self.address.db)
        # What kombu closes with the pools.
        manager = "_async_sentinel_manager" if asynchronous else "_sentinel_manager"
        setattr(self, manager, getattr(made, "sentinel_manager", None))
        return made

    def _size(self, queue: str) -> int:  # noqa: ARG002
        """Celery asks whenever it declares a queue, and needs no answer."""
        return 0

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """A ring goes to a queue by its name; only Flower's events go by a table in Redis."""
        if self.typeof(exchange).type == "fanout":  # type: ignore[no-untyped-call]
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]

    def _watched(self) -> type:
        """Connections whose end the event loop hears of."""
        channel = self

        class Watched(connection_class(self.address)):  # type: ignore[misc]
            def disconnect(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
                super().disconnect(*args, **options)
                if channel._registered:
                    channel._on_connection_disconnect(self)  # type: ignore[no-untyped-call]

        return Watched


class Transport(redis.Transport):
    """The same connection with that channel; it knows the address, and how to show it."""

    Channel = Channel
    can_parse_url = True

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "") -> str:  # noqa: ARG002
        """What the banner and the log show; only Flower asks for the password."""
        client: Any = self.client
        address: RedisAddress = client.transport_options[ADDRESS]
        return address.url if include_password else str(address)


class KeepsTimeouts(connections.Connection):
    """Disconnects without a change to anything else in the program."""

    def collect(self, socket_timeout: float | None = None) -> None:  # noqa: ARG002
        """End the connection. kombu's way changes the time limit of all new sockets of the program
        for that while, and for good where two threads go it at once.
        """
        self._do_close_self()  # type: ignore[no-untyped-call]
        self._do_close_transport()  # type: ignore[no-untyped-call]


class BrokerConnection(KeepsTimeouts):
    """A connection to the address in the transport's options, whatever URL Celery gives."""

    def __init__(self, *_: object, transport_options: dict[str, Any], **options: Any) -> None:  # noqa: ANN401
        kept = {name: options[name] for name in ("connect_timeout",) if name in options}
        super().__init__(  # type: ignore[no-untyped-call]
            "redis", transport=Transport, transport_options=transport_options, **kept
        )

    def Pool(self, limit: int | None = None, **options: bool) -> BrokerPool:  # noqa: N802 - kombu's
        return BrokerPool(self, limit, **options)

    def __eqhash__(self) -> int:
        """Connections to one address share a pool, and logins differ although they print alike."""
        options: dict[str, Any] = self.transport_options or {}
        return hash((options[ADDRESS], repr(options)))


class PooledConnection(KeepsTimeouts, connections.PooledConnection):
    """One of a pool, which closes it after an error."""


class BrokerPool(connections.ConnectionPool):
    """Those connections. Forked children of multiprocessing and billiard close it, where wanted."""

    def __init__(
        self,
        connection: connections.Connection,
        limit: int | None,
        *,
        close_after_fork: bool = True,
    ) -> None:
        self.close_after_fork = close_after_fork
        super().__init__(connection, limit)  # type: ignore[no-untyped-call]

    def new(self) -> PooledConnection:
        return PooledConnection(self, **self.connection.info())  # type: ignore[no-untyped-call]


class Broker(AMQP):  # type: ignore[misc]
    """Celery's broker, by that connection."""

    Connection = BrokerConnection
