"""Connections to Redis as an address says: each of them, of every kind, is opened here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from embedfleet_schema.redis_url import Login, RedisAddress, Tls

if TYPE_CHECKING:
    from redis import ConnectionPool, Redis
    from redis.asyncio import Redis as AsyncRedis

# A Unix socket has none of these.
_TCP_ONLY = ("socket_connect_timeout", "socket_keepalive", "socket_keepalive_options")


def connection_class(address: RedisAddress) -> type:
    """Of connections that block; TLS is part of the class, so that none is ever plain before it."""
    from redis import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

    if address.socket is not None:
        return UnixDomainSocketConnection
    if address.master is not None:
        return SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
    return SSLConnection if address.tls else Connection


def pool(
    address: RedisAddress, limits: Mapping[str, Any], connection: type | None = None
) -> ConnectionPool:
    """A pool of connections that block.

    Args:
        address: where to.
        limits: what redis-py takes besides: time limits, the size of the pool.
        connection: a subclass of `connection_class(address)`, to hear of its ends.
    """
    from redis import ConnectionPool, Redis
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    options = {**_options(address, limits), "connection_class": connection}
    if connection is None:
        options["connection_class"] = connection_class(address)
    if address.master is None:
        return ConnectionPool(**options)
    waits = _of_sentinels(address, limits, Retry)
    sentinels = Sentinel(address.hosts, sentinel_kwargs=waits)  # type: ignore[no-untyped-call]
    master = sentinels.master_for(address.master, Redis, **options)  # type: ignore[no-untyped-call]
    found: ConnectionPool = master.connection_pool
    return found


def client(address: RedisAddress, **limits: Any) -> Redis:  # noqa: ANN401 - redis-py's own options
    """A client that blocks; whoever closes it closes its pool."""
    from redis import Redis

    return Redis.from_pool(pool(address, limits))


def async_client(address: RedisAddress, **limits: Any) -> AsyncRedis:  # noqa: ANN401
    """The same for an event loop."""
    from redis import asyncio
    from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel

    options = _options(address, limits)
    if address.master is not None:
        waits = _of_sentinels(address, limits, Retry)
        sentinels = Sentinel(address.hosts, sentinel_kwargs=waits)  # type: ignore[no-untyped-call]
        master: AsyncRedis = sentinels.master_for(
            address.master, asyncio.Redis, ssl=address.tls is not None, **options
        )
        return master
    if address.socket is not None:
        options["connection_class"] = UnixDomainSocketConnection
    elif address.tls is not None:
        options["connection_class"] = SSLConnection
    return asyncio.Redis.from_pool(asyncio.ConnectionPool(**options))


async def aclose(client: AsyncRedis) -> None:
    """Close the connections of a client, and those to the sentinels that it asked."""
    await client.aclose()
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in () if sentinels is None else sentinels.sentinels:
        await sentinel.aclose()


def _options(address: RedisAddress, limits: Mapping[str, Any]) -> dict[str, Any]:
    options = {**limits, **_of_login(address.login), **tls_options(address.tls), "db": address.db}
    if address.socket is not None:
        for name in _TCP_ONLY:
            options.pop(name, None)
        options["path"] = address.socket
    elif address.master is None:
        ((options["host"], options["port"]),) = address.hosts
    return options


def _of_sentinels(
    address: RedisAddress, limits: Mapping[str, Any], retry: Callable[..., object]
) -> dict[str, Any]:
    """Each is asked once: where one is away, there are others."""
    from redis.backoff import NoBackoff

    waits = {name: value for name, value in limits.items() if name.startswith("socket_")}
    tls = {"ssl": True, **tls_options(address.tls)} if address.tls else {}
    return {**waits, **tls, **_of_login(address.sentinel_login), "retry": retry(NoBackoff(), 0)}


def _of_login(login: Login) -> dict[str, Any]:
    return {"username": login.username, "password": login.password}


def tls_options(tls: Tls | None) -> dict[str, Any]:
    """As redis-py names them; empty without TLS."""
    if tls is None:
        return {}
    return {
        "ssl_cert_reqs": tls.verify,
        "ssl_check_hostname": tls.check_hostname,
        "ssl_ca_certs": tls.ca_certs,
        "ssl_ca_path": tls.ca_path,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
        "ssl_password": tls.key_password,
    }
