"""What may be shown of the URLs of PostgreSQL and Redis: never a letter that could be a password's.

A password with an unescaped `@` or `/` makes a URL that means something else: its tail is read as a
host, a port or a database. So what is shown was read without doubt, or it is the scheme alone. Of
`key=value` words, libpq's reading counts: a password with a space in it has to be quoted there.
"""

from __future__ import annotations

import re

from embedfleet_schema.redis_url import SCHEMES, BadRedisUrl, parse_redis_url

POSTGRES = ("postgresql", "postgres")
UNREADABLE = "(an address that cannot be read)"
ESCAPES = "a password or name in it holds @ / or ?; write them as %40 %2F and %3F"

_SECRET = re.compile(
    r"(?:^|[?&\s'])(?:ssl)?(?:password|scram_client_key|scram_server_key|oauth_client_secret)\s*=",
    re.IGNORECASE,
)
# An address, or a login, where a host or a name is to be; a Unix socket may begin with an @.
_ANOTHER = re.compile(r".@|://|=", re.DOTALL)
_PORTS = re.compile(r"\d*(?:,\d*)*")


class BadDatabaseUrl(ValueError):
    """Why a URL of PostgreSQL is not taken. It quotes nothing of it."""


def redacted(url: str) -> str:
    """All that a message or a log may show of an address.

    Host, port and database of PostgreSQL, as host:5432/name; of Redis the URL without its login; of
    what cannot be read, its scheme.
    """
    scheme = _scheme(url)
    try:
        if scheme in SCHEMES:
            return str(parse_redis_url(url))
        return _shown(url)
    except (BadRedisUrl, BadDatabaseUrl):
        known = scheme in SCHEMES or scheme in POSTGRES
        return f"{scheme}://{UNREADABLE}" if known else UNREADABLE


def check_database_url(url: str) -> dict[str, str]:
    """The parameters that libpq finds in a URL or in `key=value` words.

    Raises:
        BadDatabaseUrl: it finds none, or ones that may be pieces of a password.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if "\0" in url:
        # libpq reads no further, and would take what is before it for all.
        raise BadDatabaseUrl("it holds the character NUL")
    scheme = _scheme(url)
    if scheme and scheme not in POSTGRES:
        raise BadDatabaseUrl("it is not a PostgreSQL URL: those start with postgresql://")
    if scheme:
        rest = url.partition("://")[2]
        # libpq takes the first of these for the end of the login or of the host.
        authority = rest.partition("/")[0]
        if rest.count("@") > 1 or "@" in rest.removeprefix(authority):
            raise BadDatabaseUrl(ESCAPES)
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except ProgrammingError:
        # Its message quotes the URL, password and all.
        hint = ESCAPES if scheme else "quote values with spaces, as in password='two words'"
        raise BadDatabaseUrl(f"libpq does not understand it; {hint}") from None
    if not _PORTS.fullmatch(found.get("port", "")):
        raise BadDatabaseUrl(f"its port is not a number; {ESCAPES}")
    return found


def for_psycopg(url: str) -> str:
    """SQLAlchemy's `postgresql+driver://` and Heroku's `postgres://` as psycopg reads them."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.split("+")[0] in ("postgresql", "postgres"):
        return f"postgresql://{rest}"
    return url


def _shown(url: str) -> str:
    found = check_database_url(url)
    parts = [found.get(name, "") for name in ("host", "hostaddr", "port", "dbname")]
    if any(map(_ANOTHER.search, parts)):
        raise BadDatabaseUrl("one part of it contains another address")
    secret = _SECRET.search(url)
    if secret is not None:
        # What changes a parameter from behind a password may be a piece of it.
        before = check_database_url(url[: secret.start()].rstrip("?&"))
        if any(found[name] != value for name, value in before.items()):
            raise BadDatabaseUrl(ESCAPES)
    host, hostaddr, port, name = parts
    hosts = (host or hostaddr or "localhost").split(",")
    ports = (port or "5432").split(",")
    if len(ports) < len(hosts):
        ports *= len(hosts)
    servers = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
    return f"{servers}/{name}"


def _scheme(url: str) -> str:
    """What stands before `://`, which keyword strings have only inside a value."""
    head, separator, _ = url.strip().partition("://")
    return head.lower() if separator and re.fullmatch(r"[A-Za-z][\w+.-]*", head) else ""
