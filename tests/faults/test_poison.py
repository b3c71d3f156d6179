"""One text that cannot be embedded, or that kills its worker, is found and harms no other."""

from collections import Counter

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.embedding_errors import InputAtFault
from plugins.fleets import ask, claiming, queue_again
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around

TEXTS = 256
POISON = "poison"


@pytest.fixture
def wide(fleet):
    """The test's fleet with a budget that takes all of its texts into one batch."""
    with Fleet(fleet.settings.model_copy(update={"batch_tokens_cpu": 8_192})) as wide:
        yield wide


@pytest.fixture
def poisoned(wide):
    """A collection with 256 texts in one batch, the one in the middle poisoned."""
    docs = wide.collection("docs", model="fake/16")
    documents = [ef.Document(f"d{n}", f"text number {n}") for n in range(TEXTS)]
    documents[TEXTS // 2] = ef.Document("bad", f"{POISON} in the text")
    assert docs.enqueue(documents).enqueued.batches == 1
    return docs


def refuse_poison(texts, vectors):
    if any(POISON in text for text in texts):
        raise InputAtFault(reason="there is poison in it")
    return vectors


def test_one_poisoned_text_of_256_costs_sixteen_more_calls(wide, poisoned, report):
    embedder = ScriptedEmbedder(poisoned.info.space, refuse_poison)
    pipeline, stats = pipeline_around(wide, embedder)
    finish(wide, pipeline)
    assert poisoned.audit().stored == TEXTS - 1
    assert [("bad", "INPUT_REJECTED")] == [(f.document, f.code) for f in poisoned.failures()]
    assert {"done": 8, "split": 8, "fail": 1} == Counter(each.outcome for each in stats)
    assert embedder.calls - 1 <= 16
    report(extra_embed_calls_for_one_poison_in_256=embedder.calls - 1)


def test_a_text_that_kills_its_worker_is_found_with_two_crashes_per_level(wide, poisoned, report):
    """Workers that die are played by leases that run out; real ones die in test_workers_die."""
    crashes: Counter[int] = Counter()
    with claiming(wide) as store:
        while lease := store.claim("cpu"):
            if not any(POISON in text for text in lease.texts):
                store.commit(lease, fake_vectors(poisoned.info.space, lease.texts, "document"))
                continue
            crashes[len(lease.texts)] += 1
            ask(
                wide,
                "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s'"
                " WHERE state = 'leased' RETURNING id",
            )
            assert sweep(wide.db).reclaimed == 1
    assert poisoned.audit().stored == TEXTS - 1
    assert [("bad", "WORKER_CRASH")] == [(f.document, f.code) for f in poisoned.failures()]
    assert dict.fromkeys((256, 128, 64, 32, 16, 8, 4, 2, 1), 2) == crashes
    report(crashes_to_find_a_killer_in_256=crashes.total(), crashes_per_level=max(crashes.values()))


def test_several_poisoned_texts_leave_all_others(wide):
    docs = wide.collection("docs", model="fake/16")
    bad = {f"d{n}" for n in range(0, TEXTS, 37)}
    docs.enqueue(
        ef.Document(f"d{n}", f"{POISON if f'd{n}' in bad else 'text'} number {n}")
        for n in range(TEXTS)
    )
    pipeline, _ = pipeline_around(wide, ScriptedEmbedder(docs.info.space, refuse_poison))
    finish(wide, pipeline)
    assert bad == {failure.document for failure in docs.failures()}
    assert TEXTS - len(bad) == docs.audit().stored


def test_a_failure_ends_when_another_batch_embeds_the_same_text(wide):
    docs = wide.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("one", f"{POISON} once")])
    queue_again(wide, docs)
    with claiming(wide) as store:
        store.fail(store.claim("cpu"), code="INPUT_REJECTED", reason="there is poison in it")
        lease = store.claim("cpu")
        store.commit(lease, fake_vectors(docs.info.space, lease.texts, "document"))
    assert [] == docs.failures()
    assert 1 == docs.audit().stored


def test_a_text_that_is_gone_by_the_time_it_fails_leaves_no_failure(wide):
    docs = wide.collection("docs", model="fake/16")
    job = docs.enqueue([ef.Document("one", f"{POISON} once")])
    with claiming(wide) as store:
        lease = store.claim("cpu")
        docs.delete(["one"])
        store.fail(lease, code="INPUT_REJECTED", reason="there is poison in it")
    assert [] == docs.failures()
    assert ("done", 0) == (job.status.state, job.status.failed)
