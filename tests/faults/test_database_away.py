"""PostgreSQL that crashes, hangs up or is full: F6 and F7 of docs/reliability.md."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import sql

from embedfleet.cli.diagnosis import examine
from embedfleet.fleet import Fleet
from embedfleet.stack import status, up
from embedfleet_schema.settings import load_settings
from plugins.failpoints import alive, documents, leased, repeated
from plugins.fleets import ask
from plugins.pipelines import ScriptedEmbedder, pipeline_around
from plugins.worker_processes import eventually

GOES_ON_S = 60.0
TRIES_A_MINUTE = 6
FULL = "has no disk space left"


@pytest.fixture
def fleet(request):
    """Servers as the test needs them: of its own, on a small disk, or the session's."""
    kinds = ("own_fleet", "small_fleet")
    kind = next((each for each in kinds if each in request.fixturenames), "session_fleet")
    return request.getfixturevalue(kind)


@pytest.fixture
def session_fleet(migrated_url, redis_url):
    with Fleet(fleet_settings(migrated_url, redis_url)) as fleet:
        yield fleet


def fleet_settings(database_url, redis_url):
    """Some of these tests leave a lease behind, which the next worker waits for."""
    return load_settings(
        database_url=database_url,
        redis_url=redis_url,
        batch_tokens_cpu=64,
        lease_seconds=5.0,
        heartbeat_seconds=1.0,
    )


def crashes(fleet) -> int:
    return ask(fleet, "SELECT coalesce(sum(crashes), 0) FROM embedfleet.batch")[0][0]


def restart_immediately(fleet) -> None:
    """As pg_ctl restart -m immediate: no goodbye to anyone, then recovery from the log."""
    pid = status(fleet.settings.data).postgres.pid
    assert pid is not None
    server = psutil.Process(pid)
    server.send_signal(signal.SIGQUIT)
    psutil.wait_procs([server], timeout=30)
    up(fleet.settings.data)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.nightly)])
def test_workers_outlive_a_database_that_crashes_during_commits(
    fleet, own_fleet, worker_process, report, times
):
    docs = fleet.collection("docs", model="fake/16")
    # No lease runs out while the server recovers.
    options = {"fake_faults": "latency=0.05", "lease_seconds": "30"}
    workers = [worker_process(slots=2, **options) for _ in range(2)]
    eventually(lambda: len(alive(fleet)) == 2)
    job = docs.enqueue(documents(1_500 * times))
    eventually(lambda: leased(fleet) > 0)
    for _ in range(times):
        restart_immediately(fleet)
        time.sleep(1.5)
        eventually(lambda: leased(fleet) > 0 or job.status.finished)
    embedded = job.wait(timeout_s=120)
    report(restarts=times, crashes_charged=crashes(fleet), embedded_again=repeated(fleet))
    assert (1_500 * times, 0) == (embedded.embedded, embedded.failed)
    assert [None, None] == [worker.process.poll() for worker in workers]
    assert 0 == crashes(fleet)


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [20])
def test_connections_that_are_terminated_between_insert_and_commit_cost_nothing(
    fleet, worker_process, report, seconds
):
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(slots=4, failpoints="before_commit=sleep:0.2", lease_seconds="10")
    eventually(lambda: alive(fleet))
    job = docs.enqueue(documents(300 * seconds))
    terminate = (
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle in transaction'"
        " AND pid <> pg_backend_pid() LIMIT 2) AS inside"
    )
    end, terminated = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        terminated += ask(fleet, terminate)[0][0]
        time.sleep(0.3)
    status = job.wait(timeout_s=120)
    report(terminated=terminated, crashes_charged=crashes(fleet), embedded_again=repeated(fleet))
    assert terminated > 0
    assert (300 * seconds, 0) == (status.embedded, status.failed)
    assert worker.process.poll() is None
    assert (0, 0) == (crashes(fleet), repeated(fleet))


@pytest.mark.nightly
@pytest.mark.parametrize("times", [25])
def test_a_commit_whose_answer_is_lost_is_not_repeated(fleet, proxy, worker_process, report, times):
    broken, url = proxy(fleet.settings.database)
    docs = fleet.collection("docs", model="fake/16")
    # The answer to a claim may be lost too: then the batch waits for its lease.
    worker = worker_process(database_url=url, lease_seconds="3")
    eventually(lambda: alive(fleet))
    for n in range(times):
        job = docs.enqueue(documents(30, f"of round {n}"))
        broken.cut_replies_to(b"COMMIT")
        status = job.wait(timeout_s=60)
        assert (30, 0) == (status.embedded, status.failed)
    report(cuts=broken.cuts, crashes_charged=crashes(fleet), embedded_again=repeated(fleet))
    assert broken.cuts > 0
    assert 0 == crashes(fleet)
    assert worker.process.poll() is None


@pytest.mark.nightly
def test_a_partition_from_the_database_is_survived(fleet, proxy, worker_process):
    cut_off, url = proxy(fleet.settings.database)
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(database_url=url, fake_faults="latency=0.2", lease_seconds="3")
    eventually(lambda: alive(fleet))
    job = docs.enqueue(documents(100))
    eventually(lambda: job.status.embedded > 0)
    cut_off.refuse()
    time.sleep(4)
    cut_off.heal()
    status = job.wait(timeout_s=60)
    assert (100, 0) == (status.embedded, status.failed)
    assert 0 == crashes(fleet)
    assert worker.process.poll() is None


@contextmanager
def full(fleet, *triggers: str):
    """PostgreSQL says of some changes what it says when the disk is full."""
    with fleet.db.transaction() as conn:
        conn.execute(
            "CREATE FUNCTION pg_temp_full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        for number, change in enumerate(triggers):
            conn.execute(
                f"CREATE TRIGGER disk_full_{number} BEFORE {change} EXECUTE FUNCTION pg_temp_full()"
            )
    yield
    with fleet.db.transaction() as conn:
        conn.execute("DROP FUNCTION pg_temp_full CASCADE")


# A batch leaves its lease.
LEAVING = (
    "UPDATE ON embedfleet.batch FOR EACH ROW WHEN (OLD.state = 'leased' AND NEW.state <> 'leased')"
)


def test_a_full_disk_pauses_the_worker_and_charges_nobody(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(100))
    runtime = worker()
    with full(fleet, f"INSERT ON embedfleet.{docs.info.vectors}"):
        assert ["defer", "paused", "paused"] == [runtime.run_one("cpu") for _ in range(3)]
    assert FULL in job.status.reason
    assert [] == docs.failures()
    assert [(0, 0)] == ask(fleet, "SELECT sum(errors), sum(crashes) FROM embedfleet.batch")


def test_a_disk_too_full_to_put_a_batch_back_is_a_reason_all_the_same(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(100))
    runtime = worker()
    with full(fleet, f"INSERT ON embedfleet.{docs.info.vectors}", LEAVING):
        assert ["lost", "paused"] == [runtime.run_one("cpu") for _ in range(2)]
    eventually(lambda: job.status.reason)
    assert FULL in job.status.reason
    assert FULL in str(docs.explain(documents(100)[0].key))
    assert [FULL in each.reason for each in fleet.workers()] == [True]
    assert [FULL in each.found for each in examine(fleet.settings)].count(True) == 1


def test_a_batch_that_fails_on_a_full_disk_is_the_last_that_is_embedded_for_now(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(100))

    def fails(*_):
        raise ValueError

    embedder = ScriptedEmbedder(docs.info.space, fails)
    pipeline, _ = pipeline_around(fleet, embedder)
    with full(fleet, LEAVING):
        assert ["lost", "paused"] == [pipeline.run_one("cpu") for _ in range(2)]
    assert 1 == embedder.calls
    # Nobody keeps its lease, which would run for a minute.
    ask(fleet, "UPDATE embedfleet.batch SET lease_until = now() WHERE state = 'leased'")


@contextmanager
def small_disk(owner: tuple[int, int], size: str):
    """A file system of its own in memory, which PostgreSQL's account owns."""
    folder = Path(tempfile.mkdtemp(prefix="embedfleet-disk-"))
    folder.chmod(0o755)
    options = f"size={size},uid={owner[0]},gid={owner[1]},mode=700"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        (folder / "tablespace").mkdir(mode=0o700)
        os.chown(folder / "tablespace", *owner)
        yield folder
    finally:
        subprocess.run([umount, "--lazy", folder], check=True)
        folder.rmdir()


@pytest.fixture
def small_fleet(stack, stack_data, template_database, redis_url):
    """A fleet whose database lies on a disk of 32 MB; `small_fleet.disk` is where."""
    server = psutil.Process(status(stack_data).postgres.pid)
    name = f"small_{uuid4().hex}"
    with (
        small_disk((server.uids().effective, server.gids().effective), "32m") as disk,
        psycopg.connect(stack.database_url, autocommit=True) as connection,
    ):
        place = sql.Literal(str(disk / "tablespace"))
        connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(place))
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} TABLESPACE small STRATEGY file_copy")
        template = sql.Identifier(template_database)
        connection.execute(create.format(sql.Identifier(name), template))
        url = urlsplit(stack.database_url)._replace(path=f"/{name}").geturl()
        with Fleet(fleet_settings(url, redis_url)) as fleet:
            fleet.disk = disk
            yield fleet
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        connection.execute(drop.format(sql.Identifier(name)))
        connection.execute("DROP TABLESPACE small")


def fill(path: Path) -> None:
    """Take all space that the disk has left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))


def attempts(fleet) -> int:
    return ask(fleet, "SELECT coalesce(sum(attempt), 0) FROM embedfleet.batch")[0][0]


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_database_without_disk_space_pauses_the_work_until_there_is_some(
    fleet, small_fleet, worker_process, report
):
    docs = fleet.collection("docs", model="fake/384")
    job = docs.enqueue(documents(3_000))
    filler = fleet.disk / "filler"
    worker = worker_process(slots=2, fake_faults="latency=0.1", lease_seconds="10")
    eventually(lambda: job.status.embedded > 0)
    fill(filler)
    eventually(lambda: "paused" in worker.log.read_text() or FULL in worker.log.read_text())
    time.sleep(5)
    before = attempts(fleet)
    time.sleep(60)
    tries = attempts(fleet) - before
    reason = job.status.reason or ""
    embedded = job.status.embedded
    filler.unlink()
    freed = time.monotonic()
    eventually(lambda: job.status.embedded > embedded, timeout_s=90)
    report(tries_in_a_minute=tries, goes_on_after_s=time.monotonic() - freed, reason=reason)
    assert tries <= TRIES_A_MINUTE
    assert FULL in reason
    assert time.monotonic() - freed <= GOES_ON_S
    assert [] == docs.failures()
    assert 0 == crashes(fleet)
    assert 3_000 == job.wait(timeout_s=90).embedded
    assert worker.process.poll() is None
