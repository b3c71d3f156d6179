"""A collection follows a table: what is in the one is in the other, whatever was done to it."""

import json

import pytest

import embedfleet as ef
from embedfleet_schema.store import sync_rows, syncs
from embedfleet_schema.sync_errors import SyncStopped, UnknownSync
from plugins.fleets import ask, drain
from plugins.synced_tables import FOLLOWED, ROWS, in_table, run, seen, texts


def outbox(fleet):
    return [keys for (keys,) in ask(fleet, "SELECT keys FROM embedfleet.sync_outbox ORDER BY id")]


def test_rows_become_documents_with_their_text_and_metadata(fleet, worker, articles):
    assert "backfilling" == articles.status.state
    assert "following" == articles.catch_up().state
    drain(worker())
    found = seen(fleet)
    assert ["1", "2", "3", "4", "5"] == list(found)
    metadata = {"lang": "en", "published": "2026-01-02T03:04:05+00:00"}
    assert ("title 1\n\nbody 1", metadata) == found["1"]
    assert {"public.articles"} == {each.source for each in fleet.collection("articles").documents()}


def test_what_is_changed_deleted_and_added_is_followed(fleet, worker, articles):
    articles.catch_up()
    ask(fleet, "UPDATE public.articles SET body = 'other words' WHERE id = 2")
    ask(fleet, "DELETE FROM public.articles WHERE id = 3")
    ask(fleet, ROWS, 6, 6)
    ask(fleet, "UPDATE public.articles SET id = 40 WHERE id = 4")
    assert 5 == articles.status.behind
    articles.catch_up()
    drain(worker())
    assert ["1", "2", "40", "5", "6"] == list(texts(fleet))
    assert in_table(fleet) == texts(fleet)
    found = articles.verify()
    assert (5, 0) == (found.compared, found.differences)


def test_a_change_of_another_column_is_not_noted(fleet, articles):
    ask(fleet, "UPDATE public.articles SET views = 7")
    ask(fleet, "UPDATE public.articles SET body = body, lang = 'en'")
    assert [] == outbox(fleet)


def test_a_statement_notes_the_keys_that_it_changed_and_no_others(fleet, articles):
    ask(
        fleet,
        "UPDATE public.articles SET views = id, body = body || CASE id WHEN 2 THEN '!' ELSE '' END",
    )
    ask(fleet, "UPDATE public.articles SET id = id + 1 WHERE id = 5")
    ask(
        fleet,
        "INSERT INTO public.articles VALUES (1, 't'), (9, 't')"
        " ON CONFLICT (id) DO UPDATE SET title = 'u'",
    )
    ask(fleet, "DELETE FROM public.articles WHERE id = 77")
    ask(fleet, "TRUNCATE public.articles")
    # Of a key that is another one, the former is gone and the new one came.
    assert [["2"], ["5", "6"], ["1"], ["9"], None] == [
        keys and sorted(keys) for keys in outbox(fleet)
    ]


def test_what_is_rolled_back_is_not_noted(fleet, articles):
    with fleet.db.transaction() as conn:
        conn.execute("DELETE FROM public.articles")
        conn.rollback()
    assert [] == outbox(fleet)


def test_a_table_that_is_emptied_and_filled_again_leaves_what_it_holds_now(fleet, worker, articles):
    articles.catch_up()
    drain(worker())
    ask(fleet, "TRUNCATE public.articles")
    ask(fleet, ROWS, 5, 6)
    articles.catch_up()
    drain(worker())
    assert ["5", "6"] == list(texts(fleet))


def test_a_backfill_goes_on_where_it_was_cut_off(fleet, worker, articles, monkeypatch):
    monkeypatch.setattr("embedfleet.sync_following.PAGE", 2)

    def cut_off(_rows):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        articles.catch_up(on_page=cut_off)
    assert (["2"], 2) == ((now := articles.status).backfill_after, now.backfilled)
    ask(fleet, "UPDATE public.articles SET body = 'newer' WHERE id IN (1, 5)")
    read = []
    assert 5 == articles.catch_up(on_page=read.append).backfilled
    assert 3 == sum(read)
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_nothing_is_embedded_that_has_its_vector(fleet, worker, articles):
    articles.catch_up()
    drain(worker())
    ask(fleet, "UPDATE public.articles SET lang = 'de'")
    ask(fleet, "UPDATE public.articles SET body = 'body 1', title = 'title 1' WHERE id = 2")
    articles.catch_up()
    assert [] == drain(worker())
    assert {"de"} == {metadata["lang"] for _, metadata in seen(fleet).values()}


def test_a_row_that_is_not_accepted_is_a_failure_and_its_former_document_goes(
    fleet, worker, articles
):
    articles.catch_up()
    drain(worker())
    ask(fleet, "UPDATE public.articles SET title = NULL, body = '' WHERE id = 1")
    ask(fleet, "UPDATE public.articles SET lang = repeat('x', 70000) WHERE id = 2")
    ask(fleet, "UPDATE public.articles SET body = 'fine' WHERE id = 3")
    articles.catch_up()
    drain(worker())
    docs = fleet.collection("articles")
    assert {("1", "EMPTY"), ("2", "BAD_METADATA")} == {
        (each.document, each.code) for each in docs.failures()
    }
    assert ["3", "4", "5"] == list(texts(fleet))
    assert 0 == articles.verify().differences
    ask(fleet, "DELETE FROM public.articles WHERE id = 1")
    ask(fleet, "UPDATE public.articles SET lang = 'en' WHERE id = 2")
    articles.catch_up()
    drain(worker())
    assert [] == docs.failures()
    assert in_table(fleet) == texts(fleet)


def test_a_row_that_is_too_large_is_refused_before_it_is_read(fleet, worker, articles, monkeypatch):
    settings = fleet.settings.model_copy(update={"max_document_bytes": 1_000})
    monkeypatch.setattr(fleet, "settings", settings)
    ask(fleet, "UPDATE public.articles SET body = repeat('word ', 1000) WHERE id = 2")
    reads, contents = [], sync_rows.contents
    monkeypatch.setattr(
        sync_rows, "contents", lambda *given: reads.append(given[2]) or contents(*given)
    )
    articles.catch_up()
    drain(worker())
    assert [("2", "TOO_LONG")] == [
        (each.document, each.code) for each in fleet.collection("articles").failures()
    ]
    assert ["1", "3", "4", "5"] == list(texts(fleet))
    assert not any("2" in keys for keys in reads)


def test_a_document_of_another_source_keeps_its_key(fleet, worker, articles):
    docs = fleet.collection("articles")
    docs.enqueue([ef.Document("2", "mine", source="file.txt")])
    articles.catch_up()
    assert {"KEY_TAKEN"} == {each.code for each in docs.failures()}
    ask(fleet, "DELETE FROM public.articles WHERE id = 2")
    articles.catch_up()
    drain(worker())
    assert "mine" == texts(fleet)["2"]
    assert [] == docs.failures()
    assert 0 == articles.verify().differences


def test_a_comparison_finds_what_no_trigger_told_and_mends_it(fleet, worker, articles):
    articles.catch_up()
    drain(worker())
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("DELETE FROM public.articles WHERE id = 1")
        conn.execute("UPDATE public.articles SET body = 'unseen' WHERE id = 2")
        conn.execute(ROWS, (8, 9))
    assert 0 == articles.status.behind
    found = articles.verify(mend=False)
    assert (6, 2, 1, 1) == (found.compared, found.missing, found.changed, found.extra)
    assert 4 == articles.status.differences
    assert found.differences == articles.verify().differences
    drain(worker())
    assert in_table(fleet) == texts(fleet)
    assert 0 == articles.verify().differences


def test_what_is_not_followed_yet_is_no_difference(fleet, articles):
    articles.catch_up()
    articles.pause()
    ask(fleet, "UPDATE public.articles SET body = 'later' WHERE id = 2")
    ask(fleet, "DELETE FROM public.articles WHERE id = 3")
    assert 0 == articles.verify().differences
    assert 2 == articles.status.behind


def test_a_paused_sync_notes_changes_and_follows_them_later(fleet, worker, articles):
    articles.catch_up()
    articles.pause()
    ask(fleet, ROWS, 6, 7)
    with pytest.raises(SyncStopped, match="embedfleet sync resume articles"):
        articles.catch_up()
    assert ("paused", 2) == ((now := articles.status).state, now.behind)
    articles.resume()
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_dropped_sync_leaves_no_trace_on_the_table_and_its_documents_where_they_are(
    fleet, worker, articles
):
    articles.catch_up()
    drain(worker())
    articles.drop()
    assert [] == ask(fleet, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
    assert [] == ask(fleet, "SELECT proname FROM pg_proc WHERE proname ~ '^_sync_[0-9]'")
    ask(fleet, "TRUNCATE public.articles")
    assert [] == outbox(fleet)
    assert 5 == len(texts(fleet))
    for call in (articles.catch_up, articles.verify, articles.pause, lambda: articles.status):
        with pytest.raises(UnknownSync, match="embedfleet sync create articles"):
            call()


def test_documents_go_with_a_sync_where_that_is_asked_for(fleet, articles):
    docs = fleet.collection("articles")
    docs.enqueue([ef.Document("mine", "a text of somebody else")])
    ask(fleet, "UPDATE public.articles SET title = '', body = '' WHERE id = 1")
    articles.catch_up()
    articles.drop(documents=True)
    assert ["mine"] == [each.key for each in docs.documents()]
    assert [] == docs.failures()


def test_a_dropped_collection_takes_its_triggers_along(fleet, articles):
    ask(fleet, ROWS, 6, 6)
    fleet.collection("articles").drop()
    assert [] == outbox(fleet)
    assert [] == ask(fleet, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
    ask(fleet, ROWS, 7, 7)
    assert [] == fleet.syncs()


def test_creating_it_again_opens_it(fleet, articles):
    articles.catch_up()
    again = fleet.sync("articles", **FOLLOWED)
    assert articles.status.created_at == again.status.created_at
    assert articles.status.created_at == fleet.sync("articles").status.created_at
    assert ["articles"] == [each.name for each in fleet.syncs()]


def test_changes_of_a_day_are_one_job(fleet, articles):
    articles.catch_up()
    for number in range(3):
        ask(fleet, "UPDATE public.articles SET body = %s", str(number))
        articles.catch_up()
    backfill, day = sorted(fleet.statuses(), key=lambda job: job.id)
    assert (5, 15) == (backfill.documents, day.documents)
    fleet.job(day.id).cancel()
    ask(fleet, "UPDATE public.articles SET body = 'after it was cancelled'")
    articles.catch_up()
    assert 3 == len(fleet.jobs())


VALUES = """
CREATE TYPE public.mood AS ENUM ('fine', 'bad');
CREATE DOMAIN public.short AS varchar(20);
CREATE TABLE public.everything (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tagged short, said varchar(9), upper_said text
        GENERATED ALWAYS AS (upper(said)) STORED, shouted text GENERATED ALWAYS AS (said || '!'),
    raw bytea, js json, jsb jsonb, several int[], at timestamp, day date, span interval,
    amount numeric, ratio float8, feeling mood, address inet, flag boolean, nothing text
);
INSERT INTO public.everything (said, raw, js, jsb, several, at, day, span, amount, ratio, feeling,
    address, flag)
VALUES ('hello', '\\x00ff', '{"a": [1, null]}', '{"b": {"c": 2}}', '{1,2,NULL}',
    '2026-01-02 03:04:05.678', '2026-01-02', '1 day 2 hours', 'NaN', 'Infinity', 'fine',
    '10.0.0.1', true)
"""
METADATA = {
    "raw": "\\x00ff",
    "js": {"a": [1, None]},
    "jsb": {"b": {"c": 2}},
    "several": [1, 2, None],
    "at": "2026-01-02T03:04:05.678",
    "day": "2026-01-02",
    "span": "1 day 02:00:00",
    "amount": "NaN",
    "ratio": "Infinity",
    "feeling": "fine",
    "address": "10.0.0.1",
    "flag": True,
    "tagged": None,
    "nothing": None,
}


def test_values_of_all_kinds_are_metadata_that_json_can_hold(fleet, worker):
    with fleet.db.transaction() as conn:
        # Columns that are calculated as they are read, since 18.
        stored = "" if conn.info.server_version >= 180_000 else " STORED"
    run(fleet, VALUES.replace("(said || '!')", f"(said || '!'){stored}"))
    text = ["said", "upper_said", "shouted", "nothing"]
    sync = fleet.sync(
        "everything", "fake/16", table="everything", key="id", text=text, metadata=list(METADATA)
    )
    sync.catch_up()
    drain(worker())
    ((key, (content, metadata)),) = seen(fleet, "everything").items()
    assert str(ask(fleet, "SELECT id FROM public.everything")[0][0]) == key
    assert ("hello\n\nHELLO\n\nhello!", METADATA) == (content, metadata)
    # A column that is computed when it is read is in no row, and its change is noticed.
    ask(fleet, "UPDATE public.everything SET said = 'bye', js = '{\"a\": 1}'")
    sync.catch_up()
    drain(worker())
    ((content, metadata),) = seen(fleet, "everything").values()
    assert ("bye\n\nBYE\n\nbye!", {"a": 1}) == (content, metadata["js"])


ODD = 'Tä"b % le {x} $body$ $1 ' + "z" * 38


def test_names_may_be_anything_that_postgresql_takes(fleet, worker):
    assert 63 == len(ODD.encode())
    quoted = '"' + ODD.replace('"', '""') + '"'
    table = f'"Ödd.schema".{quoted}'
    run(
        fleet,
        'CREATE SCHEMA "Ödd.schema";'
        f'CREATE TABLE {table} ("Key%s" text PRIMARY KEY, "t,x\'t" text, {quoted} int);'
        f"INSERT INTO {table} VALUES ('a''b\"%s', 'one', 1)",
    )
    sync = fleet.sync("odd", "fake/16", table=table, key="Key%s", text="t,x't", metadata=ODD)
    sync.catch_up()
    run(fleet, f"UPDATE {table} SET \"t,x't\" = 'two'")
    assert 1 == sync.status.behind
    sync.catch_up()
    drain(worker())
    assert {"a'b\"%s": ("two", {ODD: 1})} == seen(fleet, "odd")
    assert 0 == sync.verify().differences


def test_a_key_of_several_columns_is_a_list_of_texts(fleet, worker):
    run(
        fleet,
        "CREATE TABLE public.parts (line int, name char(3), body text, at timestamptz,"
        " PRIMARY KEY (name, line, at));"
        "INSERT INTO public.parts SELECT n, 'ab', 'body ' || n, '2026-01-01 00:00+00'"
        " FROM generate_series(1, 5) AS n",
    )
    sync = fleet.sync("parts", "fake/16", table="parts", key=["line", "name", "at"], text="body")
    sync.catch_up()
    run(
        fleet,
        "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German';"
        "UPDATE public.parts SET body = 'new' WHERE line = 3;"
        "DELETE FROM public.parts WHERE line = 4",
    )
    sync.catch_up()
    drain(worker())
    found = {json.loads(key)[0]: text for key, text in texts(fleet, "parts").items()}
    assert {"1": "body 1", "2": "body 2", "3": "new", "5": "body 5"} == found
    assert ["1", "ab ", "2026-01-01 00:00:00+00"] == json.loads(next(iter(texts(fleet, "parts"))))
    assert 0 == sync.verify().differences


def test_a_key_that_is_equal_and_written_otherwise_is_another_key(fleet, worker):
    run(fleet, "CREATE TABLE public.sums (n numeric PRIMARY KEY, body text)")
    run(fleet, "INSERT INTO public.sums VALUES (1.0, 'one')")
    sync = fleet.sync("sums", "fake/16", table="sums", key="n", text="body")
    sync.catch_up()
    ask(fleet, "UPDATE public.sums SET n = 1.00")
    sync.catch_up()
    drain(worker())
    assert {"1.00": "one"} == texts(fleet, "sums")
    assert 0 == sync.verify().differences


def test_a_key_that_is_too_long_is_a_failure_until_its_row_goes(fleet):
    run(fleet, "CREATE TABLE public.named (name text PRIMARY KEY, body text)")
    run(fleet, "INSERT INTO public.named VALUES (repeat('ü', 400), 'one'), ('short', 'two')")
    sync = fleet.sync("named", "fake/16", table="named", key="name", text="body")
    sync.catch_up()
    docs = fleet.collection("named")
    for _ in range(2):
        assert ["KEY_TOO_LONG"] == [each.code for each in docs.failures()]
        assert 0 == sync.verify().differences
    ask(fleet, "DELETE FROM public.named WHERE name <> 'short'")
    sync.catch_up()
    assert ([], ["short"]) == (docs.failures(), [each.key for each in docs.documents()])


def test_a_partitioned_table_is_followed_through_the_table_and_through_its_parts(fleet, worker):
    run(
        fleet,
        "CREATE TABLE public.events (id int, region text, body text, PRIMARY KEY (id, region))"
        " PARTITION BY LIST (region);"
        "CREATE TABLE public.north PARTITION OF public.events FOR VALUES IN ('n');"
        "CREATE TABLE public.south PARTITION OF public.events FOR VALUES IN ('s')"
        " PARTITION BY RANGE (id);"
        "CREATE TABLE public.south_1 PARTITION OF public.south FOR VALUES FROM (0) TO (100);"
        "INSERT INTO public.events VALUES (1, 'n', 'a'), (2, 's', 'b'), (3, 's', 'c')",
    )
    sync = fleet.sync("events", "fake/16", table="events", key=["id", "region"], text="body")
    sync.catch_up()
    ask(fleet, "UPDATE public.north SET body = 'by its part'")
    ask(fleet, "INSERT INTO public.south_1 VALUES (4, 's', 'd')")
    ask(fleet, "UPDATE public.events SET region = 'n' WHERE id = 2")
    ask(fleet, "CREATE TABLE public.west PARTITION OF public.events FOR VALUES IN ('w')")
    sync.catch_up()
    ask(fleet, "INSERT INTO public.west VALUES (5, 'w', 'e')")
    assert 1 == sync.status.behind
    ask(fleet, "TRUNCATE public.south")
    sync.catch_up()
    drain(worker())
    found = {tuple(json.loads(key)): text for key, text in texts(fleet, "events").items()}
    assert {("1", "n"): "by its part", ("2", "n"): "b", ("5", "w"): "e"} == found
    ask(fleet, "ALTER TABLE public.events DETACH PARTITION public.north")
    assert 2 == sync.verify().extra


def test_a_very_long_outbox_is_followed_in_parts(fleet, worker, articles, monkeypatch):
    monkeypatch.setattr(syncs, "TAKEN", 100)
    articles.catch_up()
    for number in range(7):
        ask(fleet, "UPDATE public.articles SET body = %s WHERE id <= 3", f"body {number}")
    ask(fleet, ROWS, 10, 450)
    assert [41, 100, 100, 100, 100] == sorted(len(keys) for keys in outbox(fleet)[7:])
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)
