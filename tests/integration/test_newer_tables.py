"""Tables that were migrated past what this program knows: one clear line, and nothing is lost."""

import os
import subprocess
import sys

import pytest

import embedfleet as ef
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import SchemaNewer
from embedfleet_schema.revisions import newest
from plugins.fleets import ask, drain
from plugins.worker_processes import eventually

LINE = f"are at revision 9999, this program knows only {newest()}. Upgrade embedfleet"
# A column that claims and the producer's batches name, and a later release does not have.
MIGRATE = (
    "UPDATE embedfleet.alembic_version SET version_num = '9999'",
    "ALTER TABLE embedfleet.batch RENAME COLUMN tokens TO weights",
)
GO_BACK = (
    f"UPDATE embedfleet.alembic_version SET version_num = '{newest()}'",
    "ALTER TABLE embedfleet.batch RENAME COLUMN weights TO tokens",
)


def run(fleet, statements):
    for statement in statements:
        ask(fleet, statement)


def test_a_program_that_starts_with_newer_tables_says_what_to_do(migrated_url):
    with Database(migrated_url).connect() as conn:
        conn.execute(MIGRATE[0])
    with pytest.raises(SchemaNewer, match=LINE), Database(migrated_url).transaction():
        pass


def test_doctor_says_so_too(fleet, command):
    ask(fleet, MIGRATE[0])
    looked = command("doctor")
    assert 1 == looked.code
    assert f"at revision 9999, this program knows only {newest()}" in looked.out
    assert "upgrade embedfleet on this machine" in looked.out
    ask(fleet, GO_BACK[0])


def test_a_producer_whose_tables_are_migrated_meanwhile_raises_it(fleet, docs, worker):
    run(fleet, MIGRATE)
    with pytest.raises(SchemaNewer, match=LINE):
        docs.enqueue([ef.Document("a", "some text")])
    run(fleet, GO_BACK)
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    assert 1 == docs.audit().stored


def test_a_column_that_is_missing_from_tables_of_today_is_no_newer_release(fleet, docs):
    ask(fleet, MIGRATE[1])
    with pytest.raises(ef.EmbedfleetError, match="tokens") as caught:
        docs.enqueue([ef.Document("a", "some text")])
    assert not isinstance(caught.value, SchemaNewer)
    ask(fleet, GO_BACK[1])


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_worker_whose_tables_are_migrated_meanwhile_stops_with_that_line(
    fleet, docs, worker, worker_process, pool
):
    process = worker_process(pool=pool)
    docs.enqueue([ef.Document("a", "some text")])
    eventually(lambda: docs.audit().stored == 1)
    elsewhere = fleet.collection("elsewhere", model="fake/16", queue="cuda")
    elsewhere.enqueue([ef.Document("b", "waits")])
    run(fleet, MIGRATE)
    ask(fleet, "UPDATE embedfleet.batch SET queue = 'cpu'")
    fleet.doorbell.ring("cpu")
    assert 1 == process.process.wait(60)
    log = process.log.read_text()
    said = f'"event":"The tables at {fleet.db.name} {LINE}'
    assert 1 == log.count(said)
    assert "Traceback" not in log
    run(fleet, GO_BACK)
    drain(worker())
    assert 1 == elsewhere.audit().stored


def test_a_worker_does_not_start_with_newer_tables(fleet, worker_process):
    ask(fleet, MIGRATE[0])
    process = worker_process()
    assert 1 == process.process.wait(60)
    assert LINE in process.log.read_text()
    ask(fleet, GO_BACK[0])


def test_the_command_of_a_worker_ends_with_that_line_and_an_error_too(fleet, docs, tmp_path):
    given = fleet.settings
    variables = {
        "EMBEDFLEET_DATABASE_URL": given.database,
        "EMBEDFLEET_REDIS_URL": given.redis,
        "EMBEDFLEET_SWEEP_SECONDS": "1",
    }
    log = tmp_path / "log"
    words = ["-m", "embedfleet", "worker", "--queue", "cpu", "--concurrency", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    docs.enqueue([ef.Document("a", "some text")])
    eventually(lambda: docs.audit().stored == 1)
    docs.enqueue([ef.Document("b", "waits")])
    run(fleet, MIGRATE)
    fleet.doorbell.ring("cpu")
    assert 1 == process.wait(60)
    assert LINE in log.read_text()
    run(fleet, GO_BACK)
