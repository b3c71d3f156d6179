"""Collections of models behind an API: from enqueue over a worker and a provider to a search."""

import numpy as np
import psycopg

import embedfleet as ef
from embedfleet.fleet import Fleet
from plugins.api_workers import account, stored
from plugins.provider_dialects import expected_vectors, rate_limited, refusal

TEXTS = [f"text number {n}" for n in range(40)]
MODEL = "openai/text-embedding-3-small"


def enqueue(fleet, name="docs", model=MODEL, dimensions=16):
    docs = fleet.collection(name, model=model, dimensions=dimensions)
    docs.enqueue(ef.Document(f"d{n}", text) for n, text in enumerate(TEXTS))
    return docs


def outcomes(runtime):
    found = []
    while (outcome := runtime.run_one("api")) not in ("idle", "paused"):
        found.append(outcome)
    return found


def check_all(fleet, docs, dimensions=16):
    contents, vectors = stored(fleet, docs)
    assert sorted(TEXTS) == contents
    np.testing.assert_allclose(
        expected_vectors(contents, "document", dimensions), vectors, atol=1e-6
    )


def test_texts_become_rows_that_hold_the_vectors_of_the_provider(fleet, dialect, api_worker):
    server = dialect("openai", 16)
    docs = enqueue(fleet)
    assert {"done"} == set(outcomes(api_worker(server)))
    check_all(fleet, docs)
    assert sorted(TEXTS) == sorted(text for texts in server.texts() for text in texts)


def test_a_query_is_embedded_by_the_provider_too(fleet, dialect, api_worker):
    server = dialect("cohere", 16)
    docs = enqueue(fleet, model="cohere/embed-v4.0", dimensions=256)
    outcomes(api_worker(server))
    with Fleet(fleet.settings.model_copy(update=account(server))) as client:
        hits = client.collection("docs").search("text number 7", k=1)
    assert 1 == len(hits)
    assert ("query", ["text number 7"]) == (server.calls[-1].kind, server.calls[-1].texts)
    assert docs.audit().stored == len(TEXTS)


def test_a_429_charges_nothing(fleet, dialect, api_worker):
    server = dialect("openai", 16)
    docs = enqueue(fleet)
    server.script(rate_limited(retry_after_ms="1"), rate_limited(retry_after_ms="1"))
    assert {"done"} == set(outcomes(api_worker(server)))
    check_all(fleet, docs)
    with psycopg.connect(fleet.settings.direct_database) as conn:
        assert (0,) == conn.execute("SELECT sum(errors)::int FROM embedfleet.batch").fetchone()


def test_a_bad_text_fails_alone_and_is_sent_as_little_as_can_be(fleet, dialect, api_worker):
    server = dialect("openai", 16)
    server.plan = lambda call: refusal(400, "", "not this one") if TEXTS[20] in call.texts else None
    docs = enqueue(fleet)
    runtime = api_worker(server)
    while fleet_has_work(fleet):
        outcomes(runtime)
    assert [("d20", "INPUT_REJECTED")] == [(f.document, f.code) for f in docs.failures()]
    assert len(TEXTS) - 1 == docs.audit().stored
    answered = [text for texts in server.texts() if TEXTS[20] not in texts for text in texts]
    assert sorted(set(TEXTS) - {TEXTS[20]}) == sorted(set(answered) - {"A probe."})
    assert len(set(answered)) == len(answered)


def test_a_key_that_is_not_taken_stops_the_space(fleet, dialect, api_worker):
    server = dialect("openai", 16)
    server.plan = lambda call: refusal(401, "invalid_api_key")
    enqueue(fleet)
    assert ["stopped"] == outcomes(api_worker(server))
    assert 1 == len(server.calls)


def test_a_worker_without_a_key_leaves_the_batch_to_others(fleet, dialect, api_worker):
    server = dialect("openai", 16)
    docs = enqueue(fleet)
    without = {"openai_api_key": None, "openai_base_url": None}
    assert ["defer"] == outcomes(api_worker(server, **without))
    assert (0, 0, []) == (docs.audit().stored, len(server.calls), list(docs.failures()))


def fleet_has_work(fleet):
    with psycopg.connect(fleet.settings.direct_database) as conn:
        return conn.execute(
            "UPDATE embedfleet.batch SET run_after = now() WHERE state = 'pending'"
        ).rowcount
