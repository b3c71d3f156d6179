"""Start, stop and look at the two servers of a data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedfleet.stack import folder_access, ports
from embedfleet.stack.files import Endpoints, Folder
from embedfleet.stack.postgres import Postgres
from embedfleet.stack.processes import server_account
from embedfleet.stack.valkey import Valkey
from embedfleet.stack.wheels import make_usable, postgres_programs, valkey_program, version
from embedfleet_schema.errors import ExtraMissing

LOCK_SECONDS = 960  # longer than the longest start
OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server. `version` is empty where its wheel is missing, the rest where it is stopped."""

    name: str
    version: str
    running: bool
    pid: int | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class StackStatus:
    """Both servers of a data folder."""

    data: Path
    postgres: ServerStatus
    valkey: ServerStatus

    @property
    def running(self) -> bool:
        return self.postgres.running and self.valkey.running


def _quiet(step: str) -> None:
    """Tell nobody."""


def up(data: Path, on_step: OnStep = _quiet) -> Endpoints:
    """Have both servers running, and return where they listen; `on_step` hears what happens.

    They outlive this process. Where they listened before, they listen again if that is possible.

    Raises:
        ExtraMissing: the extra `embedded` is not installed.
        StackError: a server cannot be started; the message says why.
    """
    folder = _folder(data)
    with _own_errors(folder, "start"):
        if (running := _running(folder)) is not None:
            return running
        programs = (postgres_programs() / "postgres", valkey_program())
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.check()
        with _locked(folder, on_step):
            return _running(folder) or _start(folder, programs, on_step)


def down(data: Path) -> bool:
    """Stop both servers; returns whether any was running. The data stay.

    Raises:
        StackError: a server does not end.
    """
    folder = _folder(data)
    if not folder.root.is_dir():
        return False
    with _own_errors(folder, "stop"):
        folder.check()
        with _locked(folder, _quiet):
            stopped = [Valkey(folder).stop(), Postgres(folder).stop()]
            folder_access.close(folder, server_account(folder.postgres))
    return any(stopped)


def status(data: Path) -> StackStatus:
    """What runs; starts nothing and changes nothing."""
    folder = _folder(data)
    with _own_errors(folder, "be looked at"):
        return StackStatus(folder.root, _postgres_status(folder), _valkey_status(folder))


def _postgres_status(folder: Folder) -> ServerStatus:
    installed = _version(lambda: postgres_programs() / "postgres")
    server = Postgres(folder).running()
    if server is None or not server.ready:
        return ServerStatus("PostgreSQL", installed, running=False)
    address = f"{ports.LOOPBACK}:{server.port}"
    return ServerStatus(
        "PostgreSQL", installed, running=True, pid=server.process.pid, address=address
    )


def _valkey_status(folder: Folder) -> ServerStatus:
    installed = _version(valkey_program)
    server, endpoints, process = Valkey(folder), folder.read_endpoints(), Valkey(folder).process()
    if process is None or endpoints is None or not server.running(endpoints.redis_url):
        return ServerStatus("Valkey", installed, running=False)
    address = f"{ports.LOOPBACK}:{ports.port_of(endpoints.redis_url)}"
    return ServerStatus("Valkey", installed, running=True, pid=process.pid, address=address)


def _version(program: Callable[[], Path]) -> str:
    try:
        return version(program())
    except ExtraMissing:
        return ""


def _folder(data: Path) -> Folder:
    return Folder(data.expanduser().resolve())


def _running(folder: Folder) -> Endpoints | None:
    """Where the servers listen, if both run as the stack file says."""
    endpoints = folder.read_endpoints()
    if endpoints is None:
        return None
    postgres = Postgres(folder).running()
    if postgres is None or not postgres.ready:
        return None
    if postgres.port != ports.port_of(endpoints.database_url):
        return None
    return endpoints if Valkey(folder).running(endpoints.redis_url) else None


def _start(folder: Folder, programs: Sequence[Path], on_step: OnStep) -> Endpoints:
    account = server_account(folder.postgres)
    folder.prepare(account)
    for program in programs:
        make_usable(program, account)
    last = folder.read_endpoints() or Endpoints("", "")
    reached = [folder.postgres, *programs, *(program.resolve() for program in programs)]
    with folder_access.held_open(folder, account, reached, on_step):
        endpoints = Endpoints(
            Postgres(folder).ensure(account, last.database_url, on_step),
            Valkey(folder).ensure(account, last.redis_url, on_step),
        )
    folder.write_endpoints(endpoints)
    return endpoints


@contextmanager
def _locked(folder: Folder, on_step: OnStep) -> Iterator[None]:
    """One command at a time starts or stops the servers of a folder."""
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise ExtraMissing(feature="The embedded stack", extra="embedded") from error
    lock = FileLock(folder.lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_step("waiting for another command that starts or stops the servers")
        lock.acquire(timeout=LOCK_SECONDS)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _own_errors(folder: Folder, action: str) -> Iterator[None]:
    """What the system refuses (rights, space, a file in the way) is said in our words."""
    try:
        yield
    except OSError as error:
        raise folder.error(action, str(error)) from error
