"""The commands that give a collection another model, or another name."""

from datetime import date, timedelta

import pytest

from embedfleet.cli import model_diagnosis
from embedfleet.fleet import Fleet
from embedfleet_schema.catalogue.api_models import API_MODELS
from embedfleet_schema.catalogue.retirements import RETIREMENTS
from embedfleet_schema.errors import JobPaused, ModelChangeRefused, ModelChangeUnready
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Document
from plugins.command_line import POISON
from plugins.fleets import ask, documents, drain, workers_of
from plugins.model_changes import beside


@pytest.fixture
def migrate(command, handbook):
    """Runs `collection migrate` on the handbook."""
    return lambda *words: command("collection", "migrate", handbook, *words)


def test_a_model_changes_step_by_step(command, migrate, handbook, folder, embedding):
    assert 0 == command("enqueue", handbook, folder, "--wait").code
    planned = migrate("--model", "fake/48", "--dry-run", "--json").json
    assert ("fake/48", 3, 3) == (planned["model"], planned["documents"], planned["to_embed"])
    assert "in no model change" in migrate("--status").out
    found = migrate("--model", "fake/48", "--no-switch", "--json").json
    assert ("fake/32", "handbook_next", 0, False) == (
        found["model"],
        found["other"],
        found["changed_documents"],
        found["switched"],
    )
    assert 0 == command("eval", "handbook_next", "--json").code
    assert "fake/48" in migrate().out
    shown = command("collection", "show", handbook, "--json").json
    assert ("fake/48", "handbook_old") == (shown["model"], shown["model_change"]["other"])
    (folder / "new.txt").write_text("A document of the newer model.")
    assert 0 == command("enqueue", handbook, folder, "--wait").code
    assert "1 document changed since the switch" in migrate("--status").out
    assert "fake/32" in migrate("--rollback").out
    assert 4 == command("collection", "show", handbook, "--json").json["live_documents"]
    assert "add --yes" in migrate("--finish").err
    assert 0 == migrate("--finish", "--yes").code
    listed = command("collection", "list", "--json").json
    assert [("handbook", "fake/32")] == [(each["name"], each["model"]) for each in listed]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "--finish"], "do not go together"),
        (["--rollback", "--model", "fake/48"], "takes no --model"),
        (["--dry-run"], "takes the new model"),
        (["--keep", "a week"], "takes days, such as 7d"),
        ([], "Name the new model"),
        (["--model", "fake/32"], "its model is fake/32 already"),
        (["--rollback"], "no change is under way"),
        (["--finish", "--yes"], "no change is under way"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(migrate, words, said):
    answer = migrate(*words)
    assert 2 == answer.code
    assert said in answer.err
    assert 1 == len(answer.err.strip().splitlines())


def test_names_change_by_command(command, handbook):
    assert 0 == command("collection", "create", "other", "--model", "fake/48").code
    assert "handbook is library now" in command("collection", "rename", "handbook", "library").out
    assert "library is of fake/48" in command("collection", "swap", "library", "other").out
    assert 2 == command("collection", "swap", "library", "nothing").code


def test_what_a_model_does_not_take_is_refused_before_anything_begins(fleet, docs, worker):
    docs.enqueue(documents(3))
    drain(worker())
    with pytest.raises(ModelChangeRefused, match="does not cut documents anew"):
        docs.migrate("openai/something", dimensions=8, max_tokens=12)
    assert ["docs"] == [each.name for each in fleet.collections()]


def test_a_model_that_fails_where_the_former_one_did_not_does_not_serve(fleet, docs, worker):
    docs.enqueue([*documents(3), Document("bad", f"A {POISON}.")])
    drain(worker())
    assert [] == docs.failures()
    runtime = worker(fake_faults=f"poison={POISON}")
    with (
        beside(lambda: drain(runtime), pause_s=0.02),
        pytest.raises(ModelChangeUnready, match="1 more chunk cannot be embedded"),
    ):
        docs.migrate("fake/32")
    assert 4 == len(docs.search("text number 1"))
    assert docs.migrate(allow_failures=True).switched
    assert 3 == len(docs.search("text number 1"))


INDEXES = """
SELECT replace(substring(pg_get_indexdef(i.indexrelid) FROM ' USING .*$'), %s, 'width')
FROM pg_index AS i
WHERE i.indrelid = ANY (ARRAY(SELECT to_regclass('embedfleet.' || n) FROM unnest(%s::text[]) AS n))
ORDER BY 1
"""
STATISTICS = "SELECT count(*) FROM pg_statistic_ext WHERE stxrelid = to_regclass(%s)"


def indexes_of(fleet, docs):
    """Those of its tables, without the width of its vectors; and what was set for searches."""
    info = docs.info
    indexes = ask(fleet, INDEXES, f"({info.space.dimensions})", list(info.tables))
    statistics = ask(fleet, STATISTICS, f"embedfleet.{info.chunks}")
    return indexes, statistics, docs.index_info().settings


def test_the_second_collection_gets_the_indexes_of_the_first(fleet, docs, embedding):
    docs.enqueue(documents(20)).wait()
    docs.index(type="halfvec", memory_mb=8, workers=0)
    docs.index_words("german")
    docs.index_field("year")
    docs.index_field("when", "date")
    docs.set_index(ef_search=77)
    ask(fleet, f"CREATE INDEX own ON embedfleet.{docs.info.chunks} (position)")
    before = indexes_of(fleet, docs)
    docs.migrate("fake/32")
    assert before == indexes_of(fleet, docs)


def test_doctor_names_models_that_end(fleet):
    fleet.collection("goes_on", model="fake/16")
    fleet.collection("handbook", model="gemini/gemini-embedding-001")
    end = date(2028, 5, 14)
    (before,) = model_diagnosis.endings(fleet.db, end - timedelta(days=1))
    (after,) = model_diagnosis.endings(fleet.db, end)
    assert f"ends on {end} at the earliest" in before.found
    assert f"ended on {end}" in after.found
    assert "collection migrate handbook --model gemini/gemini-embedding-2" in after.advice
    assert "https://ai.google.dev/gemini-api/docs/deprecations" in after.advice


def test_what_is_said_to_follow_a_model_goes_on_itself():
    ending = {each.name for each in RETIREMENTS}
    assert [] == [each.name for each in RETIREMENTS if each.replacement in ending]
    assert all(each.replacement in API_MODELS for each in RETIREMENTS)
    assert all(each.source.startswith("https://") for each in RETIREMENTS)


def test_doctor_names_what_is_kept_for_too_long(fleet, docs, embedding):
    docs.enqueue(documents(1)).wait()
    docs.migrate("fake/32", keep_days=7)
    assert [] == list(model_diagnosis.model_changes(fleet.db))
    ask(fleet, "UPDATE embedfleet.model_change SET keep_seconds = 0")
    (kept,) = model_diagnosis.model_changes(fleet.db)
    assert "docs_old was to be kept until" in kept.found


def test_a_budget_pauses_a_model_change_which_then_goes_on(migrated_url, redis_url):
    prices = {"fake/32": 1_000.0}
    settings = load_settings(
        database_url=migrated_url, redis_url=redis_url, prices=prices, batch_tokens_cpu=64
    )
    with Fleet(settings) as fleet, workers_of(fleet) as make:
        runtime = make()
        docs = fleet.collection("docs", model="fake/16")
        docs.enqueue(documents(60))
        drain(runtime)
        with beside(lambda: drain(runtime), pause_s=0.02):
            with pytest.raises(JobPaused):
                docs.migrate("fake/32", budget_usd=0.001)
            (job,) = [each for each in fleet.jobs() if each.status.kind == "migrate"]
            with pytest.raises(JobPaused):
                docs.migrate()
            job.resume(budget_usd=100.0)
            assert docs.migrate().switched
        assert 60 == docs.counts().live_documents
        assert docs.audit().clean
