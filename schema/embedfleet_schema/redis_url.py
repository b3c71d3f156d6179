"""One reading of a Redis URL, for everybody who opens Redis.

redis-py and kombu read the same URL each in its own way; where one of them sees TLS, a database or
a sentinel, the other may not. So a URL is read here, once, and what it says travels as a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, unquote

Verify = Literal["required", "optional", "none"]

PORT, SENTINEL_PORT = 6379, 26379
# Where no setting says otherwise.
PREFIX = "embedfleet"
TCP = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
SOCKET = ("unix", "redis+socket", "valkey+socket")
SENTINEL = {"sentinel": False, "sentinels": True}
SCHEMES = (*TCP, *SOCKET, *SENTINEL)
TLS_OPTIONS = (
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
)
SENTINEL_OPTIONS = ("master_name", "sentinel_username", "sentinel_password")

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]*))(?::(?P<port>\d{1,5}))?")
_DATABASE = re.compile(r"\d{1,5}")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MOST_PORT = 65_535


class BadRedisUrl(ValueError):
    """Why a URL is not taken. It quotes nothing but names that are our own."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server proves who it is, and how we do. The system's CAs count in every case."""

    verify: Verify = "required"
    check_hostname: bool = True
    ca_certs: str | None = None
    ca_path: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a server; both empty where none is needed."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """As a URL has it, with the `@`; empty where nobody logs in."""
        if self.username is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.username or '', safe='')}{password}@"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and how it is spoken to.

    Args:
        hosts: names and ports: one server, or the sentinels that know it; empty for a socket.
        socket: path of a Unix socket.
        db: number of the database.
        login: at the server.
        tls: None where plain bytes are wanted; of sentinels and server alike.
        master: name of the server at the sentinels.
        sentinel_login: at the sentinels.
        prefix: what each key and channel of ours begins with, before a colon.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    db: int = 0
    login: Login = Login()
    tls: Tls | None = None
    master: str | None = None
    sentinel_login: Login = Login()
    prefix: str = PREFIX

    def __str__(self) -> str:
        """Without login and options: what a log or an error may show."""
        return self._written("").partition("?")[0]

    @property
    def key_prefix(self) -> str:
        return f"{self.prefix}:"

    @property
    def url(self) -> str:
        """With the login, and without how TLS is checked."""
        return self._written(str(self.login))

    def _written(self, login: str) -> str:
        if self.socket is not None:
            return f"redis+socket://{login}{quote(self.socket)}?virtual_host={self.db}"
        hosts = ",".join(
            f"[{name}]:{n}" if ":" in name else f"{name}:{n}" for name, n in self.hosts
        )
        scheme, end = "redis", ""
        if self.master is not None:
            scheme, end = "sentinel", f"?master_name={quote(self.master, safe='')}"
        return f"{scheme}{'s' if self.tls else ''}://{login}{hosts}/{self.db}{end}"


class PrefixedUrl(str):
    """A URL with the prefix of the keys there, which no URL of Redis has a place for."""

    __slots__ = ("prefix",)

    prefix: str

    def __new__(cls, url: str, prefix: str) -> PrefixedUrl:
        made = super().__new__(cls, url)
        made.prefix = prefix
        return made

    def __reduce__(self) -> tuple[type[PrefixedUrl], tuple[str, str]]:
        return PrefixedUrl, (str(self), self.prefix)


def parse_redis_url(url: str) -> RedisAddress:
    """What a URL says.

    Raises:
        BadRedisUrl: it is not understood to its last letter. The message quotes nothing of it.
    """
    address = _parsed(url)
    return replace(address, prefix=url.prefix) if isinstance(url, PrefixedUrl) else address


def _parsed(url: str) -> RedisAddress:
    scheme, rest = _split_scheme(url.strip())
    if scheme in SENTINEL:
        rest = _joined(scheme, rest)
    if not rest.isprintable() or " " in rest:
        raise BadRedisUrl("it holds a space or a character that cannot be seen; write it as %20")
    head, _, query = rest.partition("?")
    authority, _, path = head.partition("/")
    if "@" in path + query or "#" in rest:
        raise BadRedisUrl(
            "a password or name in it holds / ? # or @; write them as %2F %3F %23 and %40"
        )
    account, _, hosts = authority.rpartition("@")
    options = _options(query, scheme)
    login = _login(account, options)
    if scheme in SOCKET:
        return _socket(hosts, path, login, options)
    address = RedisAddress(
        hosts=_hosts(hosts, several=scheme in SENTINEL),
        db=_database(unquote(path).strip("/"), options.pop("db", None)),
        login=login,
        tls=_tls(options) if TCP.get(scheme) or SENTINEL.get(scheme) else None,
        master=options.pop("master_name", None),
        sentinel_login=Login(
            options.pop("sentinel_username", None), options.pop("sentinel_password", None)
        ),
    )
    if scheme in SENTINEL and not address.master:
        raise BadRedisUrl("sentinels need the name of the master: add ?master_name=NAME")
    return address


def _split_scheme(url: str) -> tuple[str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise BadRedisUrl(f"it starts with none of {', '.join(f'{each}://' for each in SCHEMES)}")
    return scheme.lower(), rest


def _joined(scheme: str, rest: str) -> str:
    """Celery's `sentinel://a;sentinel://b/0?...` as `a,b/0?...`, the account of the first."""
    first, *others = re.split(rf";{scheme}://", rest, flags=re.IGNORECASE)
    if not others:
        return rest
    account, at, _ = first.rpartition("@")
    pieces = [piece.rpartition("@")[2].partition("/") for piece in (first, *others)]
    ends = {end for _, _, end in pieces if end}
    if len(ends) > 1:
        raise BadRedisUrl("its sentinels name different databases or options")
    return f"{account}{at}{','.join(host for host, _, _ in pieces)}/{''.join(ends)}"


def _options(query: str, scheme: str) -> dict[str, str]:
    allowed = ["db", "username", "password"]
    if scheme in SOCKET:
        allowed.append("virtual_host")
    if TCP.get(scheme) or SENTINEL.get(scheme):
        allowed.extend(TLS_OPTIONS)
    if scheme in SENTINEL:
        allowed.extend(SENTINEL_OPTIONS)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise BadRedisUrl("after its ? there is something that is not name=value") from None
    names = [name for name, _ in pairs]
    if any(name in TLS_OPTIONS and name not in allowed for name in names):
        raise BadRedisUrl("it has TLS options but no TLS: write rediss:// (or sentinels://)")
    if not set(names) <= set(allowed):
        raise BadRedisUrl(f"it has an option that {scheme}:// does not have: {', '.join(allowed)}")
    if len(set(names)) < len(names):
        raise BadRedisUrl("it gives one option twice")
    return dict(pairs)


def _login(account: str, options: dict[str, str]) -> Login:
    username, _, password = account.partition(":")
    given = Login(options.pop("username", None), options.pop("password", None))
    if (username and given.username) or (password and given.password):
        raise BadRedisUrl("it names a user or a password twice")
    return Login(unquote(username) or given.username, unquote(password) or given.password)


def _hosts(text: str, *, several: bool) -> tuple[tuple[str, int], ...]:
    parts = text.split(",")
    if len(parts) > 1 and not several:
        raise BadRedisUrl("it names several servers; that is for sentinel://")
    found = [_HOST.fullmatch(unquote(part)) for part in parts]
    hosts = []
    for match in found:
        if match is None:
            raise BadRedisUrl("its host and port cannot be read")
        port = int(match["port"] or (SENTINEL_PORT if several else PORT))
        if not 0 < port <= _MOST_PORT:
            raise BadRedisUrl("its port is not valid")
        hosts.append((match["six"] or match["name"] or "localhost", port))
    return tuple(hosts)


def _database(*given: str | None) -> int:
    numbers = {each for each in given if each}
    if len(numbers) > 1:
        raise BadRedisUrl("it names two databases")
    number = numbers.pop() if numbers else "0"
    if not _DATABASE.fullmatch(number) or not number.isascii():
        raise BadRedisUrl("its database is not a number")
    return int(number)


def _socket(host: str, path: str, login: Login, options: dict[str, str]) -> RedisAddress:
    if host or not path:
        raise BadRedisUrl("write the whole path of a socket, such as unix:///run/redis.sock")
    db = _database(options.pop("db", None), options.pop("virtual_host", "").strip("/"))
    return RedisAddress(socket=f"/{unquote(path)}", db=db, login=login)


def _tls(options: dict[str, str]) -> Tls:
    verify = options.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verify not in get_args(Verify):
        raise BadRedisUrl(f"ssl_cert_reqs is one of {', '.join(get_args(Verify))}")
    named = options.pop("ssl_check_hostname", "true").lower()
    if named not in _TRUTH:
        raise BadRedisUrl("ssl_check_hostname is true or false")
    return Tls(
        verify=verify,  # type: ignore[arg-type]  # it is one of them
        check_hostname=_TRUTH[named],
        ca_certs=options.pop("ssl_ca_certs", None),
        ca_path=options.pop("ssl_ca_path", None),
        certfile=options.pop("ssl_certfile", None),
        keyfile=options.pop("ssl_keyfile", None),
        key_password=options.pop("ssl_password", None),
    )
