"""Plans against the tables: what would be stored, spared and paid, with nothing written."""

import json
import math
from dataclasses import replace

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_producer.plan import SAMPLES
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import (
    BadModelName,
    BadName,
    ChunkingMismatch,
    ModelMismatch,
    UnknownCollection,
)
from embedfleet_schema.store import limits, plans
from embedfleet_schema.store.limits import LimitName
from plugins.fleets import documents, drain

SMALL = "openai/text-embedding-3-small"
TABLES = ("job", "batch", "failure", "usage", "collection", "space")


def rows(fleet):
    """How many rows each table has."""
    own = [table for docs in fleet.collections() for table in docs.info.tables]
    with fleet.db.transaction() as conn:
        return {
            table: conn.execute(f"SELECT count(*) FROM embedfleet.{table}").fetchone()[0]
            for table in (*TABLES, *own)
        }


def test_a_plan_says_what_enqueue_then_does_and_writes_nothing(fleet):
    docs = fleet.collection("docs", model="fake/16")
    stream = [
        *documents(5),
        ef.Document("copy", "text number 0"),
        ef.Document("empty", " "),
        ef.Document("d1", "another text"),
        ef.Document("d2", "text number 2"),
        ef.Document("ready", chunks=["text number 3", "one two three", "text number 3"]),
    ]
    before = rows(fleet)
    plan = docs.plan(stream)
    assert before == rows(fleet)
    assert (7, 0, 2) == (plan.documents, plan.unchanged, plan.rejected)
    assert (9, 6, 18) == (plan.chunks, plan.texts, plan.tokens)
    assert (0, 0, 6, 18) == (plan.stored, plan.elsewhere, plan.to_embed, plan.tokens_to_pay)
    assert ["EMPTY", "DUPLICATE_KEY"] == [each.code for each in plan.rejections]

    done = docs.enqueue(stream).enqueued
    assert (plan.documents, plan.rejected, plan.chunks) == (
        done.documents,
        done.rejected,
        done.chunks,
    )
    assert plan.to_embed == docs.enqueue([]).status.total + fleet.job(done.job_id).status.total


@pytest.mark.parametrize("window", [1, 2, 3, 1_000])
def test_the_window_does_not_show_in_a_plan(migrated_url, redis_url, window):
    stream = [ef.Document(f"d{n % 5}", f"text {n % 7} of them") for n in range(20)]
    with ef.connect(migrated_url, redis_url, window_documents=window) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        plan = docs.plan(stream)
        done = docs.enqueue(stream)
        status = done.status
        assert (plan.documents, plan.rejected) == (status.documents, status.rejected)
        assert (5, 5, 20) == (plan.documents, plan.texts, plan.tokens)
        assert 5 == status.total


def test_what_is_stored_is_not_paid_again(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(4))
    drain(worker())
    plan = docs.plan([*documents(6), ef.Document("moved", "text number 1")])
    assert (3, 4) == (plan.documents, plan.unchanged)
    assert (3, 1, 0, 2, 6) == (
        plan.texts,
        plan.stored,
        plan.elsewhere,
        plan.to_embed,
        plan.tokens_to_pay,
    )


def test_what_another_collection_of_the_space_stores_is_told_apart(fleet, worker):
    fleet.collection("first", model="fake/16").enqueue(documents(4))
    fleet.collection("wider", model="fake/32").enqueue(documents(6))
    drain(worker())
    plan = fleet.collection("second", model="fake/16").plan(documents(6))
    assert (6, 0, 4, 2) == (plan.texts, plan.stored, plan.elsewhere, plan.to_embed)


def test_texts_that_unchanged_documents_still_wait_for_are_in_the_bill(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(3)).cancel()
    plan = docs.plan(documents(3))
    assert (0, 3, 0) == (plan.documents, plan.unchanged, plan.chunks)
    assert (3, 9) == (plan.to_embed, plan.tokens_to_pay)


def test_a_function_of_the_callers_own_cuts_in_a_plan_too(fleet):
    docs = fleet.collection("docs", model="fake/16")
    plan = docs.plan([ef.Document("a", "one\ntwo\nthree")], chunk=str.splitlines)
    assert (1, 3) == (plan.documents, plan.chunks)


def test_a_collection_that_does_not_exist_is_planned_by_its_model_alone(fleet):
    before = rows(fleet)
    (plan,) = fleet.plan("later", documents(3), SMALL, chunking=ef.Chunking(size=100))
    assert before == rows(fleet)
    assert ("later", SMALL, 1536, 3, 12) == (
        plan.collection,
        plan.model,
        plan.dimensions,
        plan.texts,
        plan.tokens,
    )
    assert not plan.approximate
    assert (0.02, 0.02 * 12 / 1_000_000) == (plan.usd_per_million, plan.usd)
    assert (None, "unknown") == (plan.seconds, plan.basis)


def test_a_plan_without_a_collection_and_without_a_model_names_what_exists(fleet):
    fleet.collection("handbook", model="fake/16")
    with pytest.raises(UnknownCollection, match="There are: handbook"):
        fleet.plan("later", documents(1))
    with pytest.raises(BadName):
        fleet.plan("not a name", documents(1), SMALL)


def test_a_plan_does_not_take_a_collection_for_another_one(fleet):
    fleet.collection("docs", model="fake/16")
    with pytest.raises(ModelMismatch, match=r"of fake/16 \(16 dimensions\), not of openai/text-em"):
        fleet.plan("docs", documents(1), SMALL)
    with pytest.raises(ChunkingMismatch):
        fleet.plan("docs", documents(1), chunking=ef.Chunking(size=5))


def test_models_stand_side_by_side_over_one_reading(fleet):
    stream = iter([ef.Document("a", "many words in a row " * 60), *documents(2)])
    compare = [SMALL, "openai/text-embedding-3-large@1024", "cohere/embed-v4.0", "fake/8"]
    first, *others = fleet.plan(
        "later", stream, "fake/16", chunking=ef.Chunking(size=50), compare=compare
    )
    assert ["fake/16", SMALL, "openai/text-embedding-3-large", "cohere/embed-v4.0", "fake/8"] == [
        each.model for each in (first, *others)
    ]
    assert [16, 1536, 1024, 1536, 8] == [each.dimensions for each in (first, *others)]
    assert [False, False, False, True, False] == [each.approximate for each in (first, *others)]
    assert [3] * 5 == [each.documents for each in (first, *others)]
    small, large = others[:2]
    assert (small.chunks, small.tokens) == (large.chunks, large.tokens)
    assert pytest.approx(6.5) == large.usd / small.usd
    assert 0 == first.usd


def test_a_model_that_does_not_take_such_chunks_is_compared_with_its_own_size(fleet):
    stream = [ef.Document("a", "word " * 3_000)]
    wide, narrow = fleet.plan(
        "later", stream, SMALL, chunking=ef.Chunking(size=2_000), compare=["all-MiniLM-L6-v2"]
    )
    assert 2 == wide.chunks
    assert 12 == narrow.chunks


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("openai/text-embedding-3-large@big", "a number of dimensions"),
        ("openai/text-embedding-3-large@", "a number of dimensions"),
        ("openai/text-embedding-3-large@4000", "it offers 1 to 3072 dimensions"),
        ("openai/text-embeding-3-large", "did you mean text-embedding-3-large"),
    ],
)
def test_a_model_to_compare_that_is_none_is_refused(fleet, name, reason):
    with pytest.raises(BadModelName, match=reason):
        fleet.plan("later", documents(1), SMALL, compare=[name])


def test_prices_that_a_person_set_win(migrated_url, redis_url):
    prices = {SMALL: 1_000_000.0, "openai/mine": 0.5}
    with ef.connect(migrated_url, redis_url, prices=prices) as fleet:
        mine = fleet.collection("mine", model="openai/mine", dimensions=8)
        (plan,) = fleet.plan("later", documents(1), SMALL)
        assert (4, 4.0) == (plan.tokens_to_pay, plan.usd)
        assert 0.5 == mine.plan(documents(1)).usd_per_million


def test_a_price_that_nobody_knows_is_not_made_up(fleet):
    plan = fleet.collection("mine", model="openai/mine", dimensions=8).plan(documents(1))
    assert (None, None) == (plan.usd_per_million, plan.usd)


@pytest.mark.parametrize(
    ("amounts", "minutes"),
    [
        ({"tokens": 80}, 5),
        ({"requests": 10}, 1 / 10),
        ({"requests": 10, "tokens": 100_000}, 1 / 10),
        ({"requests": 50, "tokens": 800}, 26 / 50),
        ({"inputs": 20}, 5),
    ],
)
def test_behind_an_api_the_limit_that_binds_gives_the_time(fleet, amounts, minutes):
    limits.set_limits(fleet.db, LimitName("openai", "", "text-embedding-3-small"), amounts)
    limits.set_limits(fleet.db, LimitName("openai", "", "text-embedding-3-large"), {"tokens": 1})
    (plan,) = fleet.plan("later", documents(100), SMALL)
    assert "limits" == plan.basis
    assert pytest.approx(60 * minutes / 0.985) == plan.seconds


@pytest.mark.parametrize(
    ("amounts", "request_tokens"),
    [
        ({"requests": 6.0, "tokens": 30_000.0}, 4_900),
        ({"requests": 120.0, "tokens": 30_000.0}, 375),
    ],
)
def test_few_requests_a_minute_are_as_large_as_the_fleet_makes_them(fleet, amounts, request_tokens):
    limits.set_limits(fleet.db, LimitName("openai", "", "text-embedding-3-small"), amounts)
    texts = [ef.Document(f"d{n}", f"word{n} " * 50) for n in range(400)]
    (plan,) = fleet.plan("later", texts, SMALL)
    tokens = plan.tokens_to_pay
    by_requests = math.ceil(tokens / request_tokens) / amounts["requests"]
    minutes = max(by_requests, tokens / amounts["tokens"])
    assert pytest.approx(60 * minutes / 0.985) == plan.seconds
    assert minutes < 1.15 * tokens / amounts["tokens"]


def test_requests_are_as_many_as_the_providers_cap_on_tokens_makes_them(fleet):
    limits.set_limits(fleet.db, LimitName("mistral", "", "mistral-embed"), {"requests": 1})
    texts = [ef.Document(f"d{n}", f"word{n} " * 700) for n in range(60)]
    (plan,) = fleet.plan("later", texts, "mistral/mistral-embed", chunking=ef.Chunking(size=4_000))
    # A batch has 65,536 tokens, and a request 16,000 at the most.
    assert pytest.approx(60 * math.ceil(plan.tokens_to_pay / 16_000) / 0.985) == plan.seconds
    assert plan.tokens_to_pay > 2 * 16_000


def test_a_limit_that_models_share_is_found_by_its_group(fleet):
    limits.set_limits(fleet.db, LimitName("openai", "", "both"), {"tokens": 40})
    limits.set_limits(fleet.db, LimitName("openai", "a key", "both"), {"tokens": 1, "inputs": 9})
    limits.join_group(fleet.db, "openai", "text-embedding-3-small", "both")
    (plan,) = fleet.plan("later", documents(10), SMALL)
    assert pytest.approx(60 * (10 / 9) / 0.985) == plan.seconds


def test_a_local_model_is_timed_by_its_newest_job(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(40))
    drain(worker())
    assert 40 == job.status.embedded
    speed = plans.speed(fleet.db, docs.info.space)
    plan = docs.plan(documents(10, word="other"))
    assert "history" == plan.basis
    assert pytest.approx(30 / speed) == plan.seconds
    # What waited for hours at a batch API says nothing of the ordinary way.
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.batch SET delivery = 'provider_batch'")
    assert plans.speed(fleet.db, docs.info.space) is None


def test_loading_the_model_and_standing_idle_do_not_slow_a_plan_down(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(400))
    drain(worker())
    with fleet.db.transaction() as conn:
        conn.execute(
            """
            WITH numbered AS (
                SELECT id, tokens, row_number() OVER (ORDER BY id) AS n FROM embedfleet.batch
            )
            UPDATE embedfleet.batch AS b
            -- An hour of loading, then 10 tokens/s, and a night in the middle.
            SET leased_at = CASE n WHEN 1 THEN t - interval '1 hour' ELSE t END,
                finished_at = t + make_interval(secs => numbered.tokens / 10.0)
            FROM numbered
            CROSS JOIN LATERAL (
                SELECT timestamptz '2026-01-01' + n * interval '12 hours' AS t
            ) AS at
            WHERE b.id = numbered.id
            """
        )
        assert conn.execute("SELECT count(*) > 3 FROM embedfleet.batch").fetchone() == (True,)
    assert pytest.approx(10, rel=0.01) == plans.speed(fleet.db, docs.info.space)


def test_a_model_that_only_loaded_has_no_speed_yet(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(3))
    drain(worker())
    assert plans.speed(fleet.db, docs.info.space) is None


@pytest.mark.torch
def test_a_local_model_that_never_ran_is_tried(fleet):
    (plan,) = fleet.plan("later", documents(SAMPLES + 5), "all-MiniLM-L6-v2")
    assert "measured" == plan.basis
    assert plan.seconds > 0


def test_what_costs_nothing_takes_no_time(fleet):
    plan = fleet.collection("docs", model="fake/16").plan([])
    assert (0, 0.0, "nothing", 0) == (plan.texts, plan.seconds, plan.basis, plan.vector_bytes)


@pytest.mark.parametrize(
    ("model", "storage"),
    [
        ("fake/64", None),
        ("fake/384", None),
        ("fake/384", "halfvec"),
        ("fake/1536", None),
        ("fake/2000", None),
        ("fake/3072", None),
        ("fake/4000", None),
    ],
)
def test_the_size_of_the_vectors_is_about_what_they_take(fleet, worker, model, storage):
    # In one batch: sessions that write a table in turns leave pages half empty, which chance has
    # them fill later or not.
    roomy = fleet.settings.model_copy(update={"batch_tokens_cpu": 4_096})
    with Fleet(roomy) as producer:
        producer.collection("docs", model=model, storage=storage).enqueue(documents(600))
    assert ["done"] == drain(worker())
    docs = fleet.collection("docs")
    counts = docs.counts()
    assert 600 == counts.vectors
    expected = plans.vector_bytes(docs.info.space, 600)
    assert pytest.approx(counts.vector_bytes, rel=0.25) == expected


def test_more_dimensions_take_more_room():
    space = resolve_space("fake/8")
    sizes = [plans.vector_bytes(replace(space, dimensions=d), 1_000) for d in (8, 384, 1536, 1900)]
    assert sizes == sorted(sizes)


def test_the_command_prints_a_plan(command, handbook, folder):
    answer = command("plan", handbook, folder)
    assert (0, "") == (answer.code, answer.err)
    lines = answer.out.splitlines()
    assert "handbook: fake/32, 32 dimensions" == lines[0]
    assert "3 documents new or changed, 0 unchanged, 0 rejected" == lines[1]
    assert "3 chunks, 3 distinct texts, 14 tokens" == lines[2]
    assert "you pay for 14 tokens: on your own machines" == lines[4]


def test_the_command_compares_models_and_names_unknown_prices(command, folder):
    answer = command(
        "plan", "later", folder, "--model", SMALL, "--compare", "jina/jina-embeddings-v3, fake/8"
    )
    assert 0 == answer.code
    assert ["model", "width", "chunks", "tokens", "to", "pay", "USD", "vectors", "time"] == (
        answer.out.splitlines()[9].split()
    )
    assert "with --provider-batches: $" in answer.out.splitlines()[5]
    assert "jina/jina-embeddings-v3" in answer.out
    assert "unknown" in answer.out
    assert 'Set EMBEDFLEET_PRICES=\'{"jina/jina-embeddings-v3": USD per' in answer.err
    assert "are estimates" in answer.err


def test_the_command_prints_plans_as_json(command, folder):
    answer = command("plan", "later", folder, "--model", SMALL, "--dimensions", 512, "--json")
    (plan,) = answer.json
    assert (SMALL, 512, 3) == (plan["model"], plan["dimensions"], plan["documents"])
    assert json.dumps(plan)


def test_a_plan_of_which_nothing_would_be_accepted_fails(command, handbook, tmp_path):
    (tmp_path / "empty.txt").write_text(" ")
    answer = command("plan", handbook, tmp_path)
    assert 1 == answer.code
    assert "EMPTY: 1" in answer.out
    assert "None of these documents would be accepted" in answer.err
