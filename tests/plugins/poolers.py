"""PgBouncer in transaction mode with TLS before the tests' database: `pytest --pooler`."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from embedfleet.stack import Endpoints
from plugins import managed
from plugins.tls_servers import Authority

# Few sessions, and each transaction gets the one that was not used for longest: whoever relies on
# what a former one left behind fails. A sweep needs two at once, and tests hold some open.
CONFIG = """\
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
logfile = {folder}/pgbouncer.log
auth_type = scram-sha-256
auth_file = {folder}/users.txt
auth_user = {user}
pool_mode = transaction
default_pool_size = 6
min_pool_size = 3
server_round_robin = 1
server_reset_query =
query_wait_timeout = 60
max_client_conn = 500
client_tls_sslmode = require
client_tls_key_file = {folder}/key.pem
client_tls_cert_file = {folder}/certificate.pem
"""
HOST = "127.0.0.1"
START_S = 20.0
# What is left out of `--pooler`, beside tests that reach no database through it, with the reason.
LEFT_OUT = {
    "test_redis_tls.py": "puts TLS before Redis itself",
    "test_selfcheck.py": "about models",
    "test_migrations.py": "what migrates has a session of its own",
    "test_role_setup.py": "databases of their own, which are migrated in the test",
    "test_database_urls.py": "about what libpq takes, options of a session among it",
    "test_cli_operations.py::test_migrating_says_from_where_to_where": "migrates another database",
    "test_search_paths.py::test_every_connection_has_the_path": "asks for options of a session",
    "test_locks.py::test_the_server_notices_a_machine": "the server's clients are the pooler's",
    "test_timeouts.py::test_a_connection_that_was_idle": "its sessions are not ours",
    "test_names.py::test_what_reads_a_name_reads": "prepares a statement for the session",
}
# It does not run as root.
UNPRIVILEGED = "nobody"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pooler",
        action="store_true",
        help="fleets of the tests reach PostgreSQL through PgBouncer in transaction mode",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = _through_pooler if config.getoption("--pooler") else _without_pooler
    left_out = {item for item in items if not wanted(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _through_pooler(item: pytest.Item) -> bool:
    name = item.nodeid.rpartition("/")[2]
    reaches_it = {"migrated_url", "pooler"} & set(getattr(item, "fixturenames", ()))
    return bool(reaches_it) and not any(name.startswith(left_out) for left_out in LEFT_OUT)


def _without_pooler(item: pytest.Item) -> bool:
    return item.get_closest_marker("pooler") is None


class Pooler:
    """A PgBouncer of its own; `through` leads a URL of the server to it, by TLS alone."""

    def __init__(self, server_url: str, authority: Authority, **settings: object) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "pgbouncer is not installed: apt-get install pgbouncer"
        server = urlsplit(server_url)
        self.folder = Path(tempfile.mkdtemp(prefix="embedfleet-pooler-"))
        self.port = _free_port()
        config = self.folder / "pgbouncer.ini"
        common = CONFIG.format(
            host=server.hostname,
            port=server.port,
            listen=self.port,
            folder=self.folder,
            user=server.username,
        )
        own = "".join(f"{name} = {value}\n" for name, value in settings.items())
        config.write_text(common + own)
        users = self.folder / "users.txt"
        users.touch(mode=0o600)
        # A user that is not listed costs sessions of the administrator's, to ask for his password.
        logins = ((server.username, server.password), (managed.NAME, managed.PASSWORD))
        users.write_text("".join(f'"{name}" "{password}"\n' for name, password in logins))
        self.authority = authority.file
        files = authority.write(self.folder, HOST)
        command = [program, "--quiet", str(config)]
        if os.geteuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            for path in (self.folder, config, users, *files):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            command[1:1] = ["--user", UNPRIVILEGED]
        self._command = command
        self._process = self._started()

    def through(self, url: str) -> str:
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        checked = urlencode({"sslmode": "verify-full", "sslrootcert": self.authority})
        query = "&".join(filter(None, (parts.query, checked)))
        return parts._replace(netloc=f"{login}@{HOST}:{self.port}", query=query).geturl()

    def log(self) -> str:
        return (self.folder / "pgbouncer.log").read_text()

    def restart(self) -> None:
        """Break the connections of all clients, and serve new ones."""
        self._end()
        self._process = self._started()

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self.folder)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                assert process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
            else:
                return process


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def pooler(stack: Endpoints, authority: Authority) -> Iterator[Pooler]:
    """PgBouncer before the session's PostgreSQL."""
    pooler = Pooler(stack.database_url, authority)
    yield pooler
    pooler.stop()


@pytest.fixture
def pooled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Leads a URL to the pooler, and makes its own known as the direct one; without `--pooler` it
    leaves all as it is.
    """
    if not request.config.getoption("--pooler"):
        return lambda url: url
    pooler: Pooler = request.getfixturevalue("pooler")

    def lead(url: str) -> str:
        monkeypatch.setenv("EMBEDFLEET_DIRECT_DATABASE_URL", url)
        return pooler.through(url)

    return lead
