"""The Celery application and the doorbell: a message says only that a queue has work.

PostgreSQL is the truth. A ring that is lost, doubled or late changes nothing: the sweeper rings
again, and any ring claims any batch of its queue.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from embedfleet_schema.breaker import Breaker
from embedfleet_schema.forks import leave_to_parent, renewed_after_fork
from embedfleet_schema.redis_clients import tls_options
from embedfleet_schema.redis_url import RedisAddress, parse_redis_url
from embedfleet_schema.rings import TASK
from embedfleet_schema.types import QUEUES, Queue

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

# Rings waiting per queue, at the most: they need not be one per batch, because each ring that
# found work rings once more, and Redis stays small however long the backlog is.
MAX_WAITING = 64
# After a ring that failed, the next ones are not tried for a while: a producer must not wait for a
# dead broker once per window, but slots of a worker stand idle until they are rung again.
PRODUCER_SILENCE_S = 10.0
WORKER_SILENCE_S = 1.0
# Rings of one process that are under way at once.
MOST_CONNECTIONS = 10
# How long a caller waits for a ring. The limit of one exchange does not do: a ring over a new
# connection takes ten of them.
RING_S = 3.0


def celery_app(redis_url: str, *, socket_timeout_s: float) -> Celery:
    """A Celery application with the settings of the fleet.

    Args:
        redis_url: broker URL.
        socket_timeout_s: limit of one exchange with Redis. A worker blocks one second at a time on
            its queue, so it must be longer than that.
    """
    # `celery` replaces itself while it is imported: other threads would find nothing in it.
    from celery.app.base import Celery
    from kombu.entity import Queue as BrokerQueue

    address = parse_redis_url(redis_url)
    app = Celery(
        "embedfleet", amqp="embedfleet_schema.broker_connection:Broker", set_as_current=False
    )
    app.conf.update(
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_queues=[BrokerQueue(name) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_default_queue="cpu",
        task_create_missing_queues=False,
        task_acks_late=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        # A lost worker's batch comes back by its lease; requeueing the ring would repeat a batch
        # that kills workers without an end.
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_soft_shutdown_timeout=0.0,
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=MOST_CONNECTIONS,
        broker_transport_options=_transport_options(address, socket_timeout_s),
        # For Flower's own connections; ours have it in their address.
        broker_use_ssl=tls_options(address.tls) or None,
    )
    return app


def _transport_options(address: RedisAddress, socket_timeout_s: float) -> dict[str, Any]:
    return {
        "address": address,
        "global_keyprefix": address.key_prefix,
        # Attempts to connect before a ring fails; kombu would try a hundred times.
        "max_retries": 1,
        "interval_start": 0.0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": min(5.0, socket_timeout_s),
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_connections": 50,
    }


class Doorbell:
    """Rings queues; never raises for a broker that is away."""

    def __init__(self, app: Celery, *, silence_s: float = PRODUCER_SILENCE_S) -> None:
        """`silence_s` is how long a ring that failed is the last one of this process."""
        self._app = app
        self._breaker = Breaker(silence_s)
        self._late: Future[bool] | None = None
        self._pool = self._new_pool()
        renewed_after_fork(self, "_renew")

    def ring(self, queue: Queue, count: int = 1) -> bool:
        """Ring `queue` up to `count` times, fewer where enough rings wait; False if Redis fails.

        False is ambiguous: a ring may have been heard although its answer was not. The call takes
        `RING_S` at most; a ring that takes longer goes on without it, and until it ends the next
        ones are not tried.
        """
        late = self._late is not None and not self._late.done()
        if late or not self._breaker.admits():
            return False
        heard: Future[bool] = Future()
        # A daemon: a process that has done its work does not wait for Redis.
        threading.Thread(
            target=self._answer, args=(heard, queue, count), name="embedfleet-ring", daemon=True
        ).start()
        try:
            return heard.result(RING_S)
        except TimeoutError:
            self._late = heard
            log.warning("queue %s: Redis does not answer within %.0f s", queue, RING_S)
            return False

    def close(self) -> None:
        """Give the connections to Redis back, those of a ring that is late too. A ring that comes
        after it, of a call that goes on in another thread, makes a new one.
        """
        pool, self._pool = self._pool, self._new_pool()
        pool.force_close_all()

    def _renew(self) -> None:
        leave_to_parent(self._pool, self._late)
        self._pool = self._new_pool()
        self._late = None

    def _new_pool(self) -> Any:  # noqa: ANN401 - kombu's, which has no types
        """Its own: kombu keeps one for all applications of a process, and of its forked children.

        Nothing is connected before a ring. kombu's hooks for forked children run after ours, and
        would close the one that a child has made by then.
        """
        connection = self._app.connection_for_write()
        return connection.Pool(MOST_CONNECTIONS, close_after_fork=False)

    def _acquired(self) -> Any:  # noqa: ANN401 - kombu's, which has no types
        """A connection; of the next pool where this one was closed meanwhile."""
        while True:
            pool = self._pool
            try:
                return pool.acquire(block=True, timeout=5)
            except RuntimeError:
                if pool is self._pool:
                    raise

    def _answer(self, heard: Future[bool], queue: Queue, count: int) -> None:
        try:
            heard.set_result(self._ring(queue, count))
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            heard.set_exception(error)

    def _ring(self, queue: Queue, count: int) -> bool:
        try:
            with self._acquired() as connection:
                waiting = connection.default_channel.client.llen(queue)
                for _ in range(min(count, MAX_WAITING - waiting)):
                    self._app.send_task(TASK, args=(queue,), queue=queue, connection=connection)
        except _broker_errors() as error:
            self._breaker.open()
            log.warning("cannot send a message to queue %s: %s", queue, type(error).__name__)
            return False
        self._breaker.close()
        return True


def _broker_errors() -> tuple[type[Exception], ...]:
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    return (OperationalError, RedisError, OSError)
