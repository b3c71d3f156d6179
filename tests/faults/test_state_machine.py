"""The batch state machine against a model of it: random steps, and after each the same rows."""

from collections import Counter
from functools import cache
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.store import claims, counters, spaces
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.sweep import sweep
from embedfleet_schema.store.usage import Spending
from embedfleet_workers.embedders.fake import fake_vectors
from plugins.batch_model import OPEN, Claim, Model
from plugins.batch_steps import DECLARED, watched
from plugins.fenced_writes import AS_IF_LEASED

STEPS_PER_EXAMPLE = 50
# Twelve tokens each, so that the smallest budget of a batch takes five of them.
TEXTS = [" ".join(f"{letter}{n}" for n in range(12)) for letter in "abcdefghijkl"]
# The number of no text.
STRAY = 0
WAYS = ["commit", "store", "defer", "retry", "split", "fail", "pause_space"]

keys = st.sampled_from(["one", "two", "three", "four"])
documents = st.dictionaries(
    keys, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9).map(tuple), min_size=1
)
# Taken modulo the number of things there are to choose from.
picks = st.integers(0, 11)


@cache
def vector_of(space, text) -> bytes:
    return fake_vectors(space, [text], "document").tobytes()


class BatchMachine(RuleBasedStateMachine):
    """Every step is done to the database and to the model."""

    def __init__(self, fleet: Fleet, steps: Counter) -> None:
        super().__init__()
        self.fleet = fleet
        self.steps = steps
        self.docs = fleet.collection(f"c{steps['examples']}", model="fake/4")
        self.workers = [Batches(fleet.db, owner=uuid4(), lease_seconds=3600.0) for _ in range(3)]
        self.model = Model()
        self.claims: list[tuple[Lease, Claim]] = []
        # The texts by their numbers, also of those that are gone.
        self.contents: dict[int, str] = {}
        steps["examples"] += 1

    # What producers and people do.

    @rule(given=documents)
    def enqueue(self, given):
        # In one lane with repairs: texts that go to another are in tests/integration/test_lanes.py.
        documents = [ef.Document(key, chunks=list(t)) for key, t in given.items()]
        job = self.docs.enqueue(documents, lane="bulk")
        self.adopt(job.id, self.model.enqueue(given))

    @rule(gone=st.sets(keys, min_size=1, max_size=2))
    def delete(self, gone):
        assert self.model.delete(gone) == self.docs.delete(sorted(gone))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=picks, what=st.sampled_from(["pause", "resume", "cancel"]))
    def change_job(self, pick, what):
        job = chosen(self.model.jobs, pick)
        getattr(self.fleet.job(job), what)()
        getattr(self.model, what)(job)

    @precondition(lambda self: self.model.failures)
    @rule(pick=picks, of_one_job=st.booleans())
    def retry_failures(self, pick, of_one_job):
        job = chosen(self.model.jobs, pick) if of_one_job else None
        texts = self.model.retry(job)
        retry = self.docs.retry(job_id=job)
        assert bool(texts) == (retry is not None)
        if retry is not None:
            self.adopt(retry.id, texts)

    @rule()
    def repair(self):
        vectors, missing = len(self.model.vectors), self.model.repair()
        self.execute(
            f"WITH {AS_IF_LEASED} INSERT INTO {self.table} (text_id, embedding)"
            " VALUES (%s, '[1,0,0,0]') ON CONFLICT (text_id) DO NOTHING",
            STRAY,
        )
        self.count_vectors(1)
        found = self.docs.audit(repair=True)
        assert (vectors, len(missing), 1, 0) == (
            found.stored,
            found.missing,
            found.extra,
            found.miscounted,
        )
        assert bool(missing) == (found.job_id is not None)
        if found.job_id is not None:
            self.adopt(found.job_id, missing)

    @precondition(lambda self: self.model.vectors)
    @rule(pick=picks)
    def lose_a_vector(self, pick):
        """What only a person with SQL can do; the next repair or enqueue makes it good."""
        text = chosen(self.model.vectors, pick)
        numbers = f"SELECT id FROM {self.texts} WHERE content = %s"
        self.execute(f"DELETE FROM {self.table} WHERE text_id = ({numbers})", text)
        self.count_vectors(-1)
        del self.model.vectors[text]
        self.model.lost.add(text)

    # What workers do.

    @rule(pick=picks)
    def claim(self, pick):
        lease, expected = chosen(self.workers, pick).claim("cpu"), self.model.claim()
        assert (expected is None) == (lease is None)
        if lease is not None:
            claimed = Claim(lease.id, lease.attempt, frozenset(lease.texts))
            assert expected == claimed
            self.claims.append((lease, claimed))

    @precondition(lambda self: self.leased)
    @rule(pick=picks)
    def claim_more(self, pick):
        lease, claim = chosen(self.leased, pick)
        more, expected = self.workers[0].claim_more(lease, "cpu"), self.model.claim_more(claim)
        claimed = [Claim(each.id, each.attempt, frozenset(each.texts)) for each in more]
        assert expected == claimed
        self.claims += zip(more, claimed, strict=True)

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def commit_several(self, pick):
        """The last claim of each batch of a job: only what still is leased by them is written."""
        job = chosen(self.claims, pick)[0].job_id
        claims = {lease.id: (lease, claim) for lease, claim in self.claims if lease.job_id == job}
        leases = [lease for lease, _ in claims.values()]
        held = {number: claim for number, (_, claim) in claims.items() if self.model.stands(claim)}
        matrix = np.concatenate([vectors_of(lease) for lease in leases])
        assert held.keys() == set(self.workers[pick % 3].commit_several(leases, matrix))
        for claim in held.values():
            self.model.commit(claim)

    @precondition(lambda self: self.leased)
    @rule(pick=picks)
    def heartbeat(self, pick):
        lease, claim = chosen(self.leased, pick)
        with self.fleet.db.transaction() as conn:
            assert {lease.id} == self.workers[0].heartbeat([(lease.id, lease.attempt)], conn)
        self.model.heartbeat(claim)

    @precondition(lambda self: self.leased)
    @rule(pick=picks)
    def commit(self, pick):
        lease, claim = chosen(self.leased, pick)
        self.workers[pick % 3].commit(lease, vectors_of(lease))
        self.model.commit(claim)

    @precondition(lambda self: any(claim.texts for _, claim in self.leased))
    @rule(pick=picks, count=st.integers(1, 4))
    def store_a_part(self, pick, count):
        lease, claim = chosen([each for each in self.leased if each[1].texts], pick)
        rows = [(pick + n) % len(lease.texts) for n in range(min(count, len(lease.texts)))]
        part = [lease.texts[row] for row in rows]
        vectors = fake_vectors(lease.collection.space, part, "document")
        self.workers[pick % 3].store(lease, rows, vectors, Spending(1, len(rows), 1, None))
        self.model.store(claim, part)

    @precondition(lambda self: self.leased)
    @rule(pick=picks)
    def pause_space(self, pick):
        lease, claim = chosen(self.leased, pick)
        self.workers[0].pause_space(lease, code="quota", reason="refused")
        self.model.pause_space(claim.batch)

    @rule()
    def resume_space(self):
        assert self.model.space_paused == spaces.resume(self.fleet.db, "fake/4").paused
        self.model.resume_space()

    @precondition(lambda self: self.leased)
    @rule(pick=picks, charge=st.booleans(), later=st.booleans())
    def put_back(self, pick, charge, later):
        lease, claim = chosen(self.leased, pick)
        leave = self.workers[0].retry if charge else self.workers[0].defer
        leave(lease, delay_s=3600.0 if later else 0.0, reason="put back")
        self.model.put_back(claim.batch, charge=int(charge), later=later)

    @precondition(lambda self: any(len(claim.texts) > 1 for _, claim in self.leased))
    @rule(pick=picks)
    def split(self, pick):
        lease, claim = chosen([each for each in self.leased if len(each[1].texts) > 1], pick)
        self.workers[0].split(lease, reason="split")
        self.model.split(claim.batch, self.children(claim.batch))

    @precondition(lambda self: self.leased)
    @rule(pick=picks)
    def fail(self, pick):
        lease, claim = chosen(self.leased, pick)
        self.workers[0].fail(lease, code="INPUT_REJECTED", reason="failed")
        self.model.fail(claim.batch, claim.texts, "INPUT_REJECTED")

    @precondition(lambda self: self.stale)
    @rule(pick=picks, way=st.sampled_from(WAYS))
    def come_back_too_late(self, pick, way):
        lease, _ = chosen(self.stale, pick)
        details = {
            "commit": {"matrix": vectors_of(lease)},
            "defer": {"delay_s": 0.0, "reason": "late"},
            "retry": {"delay_s": 0.0, "reason": "late"},
            "split": {"reason": "late"},
            "fail": {"code": "LATE", "reason": "late"},
            "pause_space": {"code": "LATE", "reason": "late"},
            "store": {
                "rows": range(len(lease.texts)),
                "matrix": vectors_of(lease),
                "spent": Spending(1, 1, 1, None),
            },
        }
        with pytest.raises(LeaseLost):
            getattr(self.workers[0], way)(lease, **details[way])
        with self.fleet.db.transaction() as conn:
            assert set() == self.workers[0].heartbeat([(lease.id, lease.attempt)], conn)

    # What time does.

    @precondition(lambda self: self.leased)
    @rule(pick=picks, swept=st.booleans())
    def expire(self, pick, swept):
        lease, claim = chosen(self.leased, pick)
        statement = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
        self.execute(statement, lease.id)
        self.model.expire(claim)
        if swept:
            self.sweep()

    @rule()
    def sweep(self):
        assert sweep(self.fleet.db) is not None
        self.model.sweep(self.children)

    @rule()
    def time_passes(self):
        self.execute(
            "UPDATE embedfleet.batch SET run_after = now()"
            " WHERE state = 'pending' AND run_after > now()"
        )
        self.model.time_passes()

    # What holds after each step.

    @invariant()
    def all_holds(self):
        self.steps["steps"] += 1
        self.the_rows_are_those_of_the_model()
        self.each_vector_is_that_of_its_text()
        self.readers_see_whole_documents()
        self.no_text_is_embedded_twice_at_once()
        self.no_cancelled_job_strands_the_text_of_another()
        self.nothing_counts_as_embedded_that_got_no_vector()
        assert 0 == counters.miscounted(self.fleet.db, self.docs.info)

    def the_rows_are_those_of_the_model(self):
        model = self.model
        assert {
            number: (
                each.job,
                each.state,
                each.texts,
                each.attempt,
                each.errors,
                each.crashes,
                each.chunks,
                each.stored,
            )
            for number, each in model.batches.items()
        } == {
            number: (job, state, [self.contents[each] for each in texts], *rest)
            for number, job, state, texts, *rest in self.rows(
                "SELECT id, job_id, state, texts, attempt, errors, crashes, chunks, stored"
                " FROM embedfleet.batch WHERE collection_id = %s"
            )
        }
        assert model.failures == {
            text: (code, job)
            for text, code, job in self.rows(
                f"SELECT content, code, job_id FROM embedfleet.failure JOIN {self.texts} AS t"
                " ON t.id = text_id WHERE collection_id = %s"
            )
        }

    def each_vector_is_that_of_its_text(self):
        found = self.execute(
            f"SELECT content, embedding FROM {self.table}"
            f" LEFT JOIN {self.texts} AS t ON t.id = text_id"
        )
        stored = dict(found)
        assert self.model.vectors.keys() == stored.keys()
        for text, embedding in stored.items():
            assert vector_of(self.docs.info.space, text) == embedding.to_numpy().tobytes()
        assert not self.model.vectors.keys() & self.model.failures.keys()

    def readers_see_whole_documents(self):
        documents = {
            key: (waiting, tuple(newest))
            for key, waiting, newest in self.execute(
                "SELECT key, live_version IS DISTINCT FROM version, ARRAY("
                f" SELECT content FROM {self.chunks} AS c JOIN {self.texts} AS t"
                " ON t.id = c.text_id WHERE c.document_id = d.id"
                " AND (c.version = d.version OR c.id <@ d.kept) ORDER BY position)"
                f" FROM {self.documents} AS d"
            )
        }
        expected = {key: (each.waiting, each.newest) for key, each in self.model.documents.items()}
        assert expected == documents
        view = f"SELECT document, content FROM embedfleet.{self.docs.name} ORDER BY 1, position"
        assert [
            (key, text)
            for key, each in sorted(self.model.documents.items())
            for text in each.live
            if text in self.model.vectors
        ] == self.execute(view)
        used = f"SELECT content FROM {self.texts} WHERE id IN (SELECT text_id FROM {self.chunks})"
        texts = f"SELECT content FROM {self.texts}"
        assert self.model.used == {content for (content,) in self.execute(used)}
        assert self.model.used == {content for (content,) in self.execute(texts)}

    def no_text_is_embedded_twice_at_once(self):
        """But for one that went with its last document, and that another one brought meanwhile."""
        batches = self.model.batches
        at_work = [t for _, claim in self.leased for t in claim.texts & batches[claim.batch].known]
        assert len(set(at_work)) == len(at_work)

    def no_cancelled_job_strands_the_text_of_another(self):
        """Every text of a job that was not cancelled is stored, queued, or failed."""
        assert set() == self.model.stranded()
        stranded = self.rows(
            f"SELECT t.content FROM {self.documents} AS d"
            " JOIN embedfleet.job AS j ON j.id = d.job_id AND j.cancelled_at IS NULL"
            f" JOIN {self.chunks} AS c ON c.document_id = d.id"
            " AND (c.version = d.version OR c.id <@ d.kept)"
            f" JOIN {self.texts} AS t ON t.id = c.text_id"
            " WHERE j.collection_id = %s"
            f" AND NOT EXISTS (SELECT FROM {self.table} AS v WHERE v.text_id = t.id)"
            " AND NOT EXISTS (SELECT FROM embedfleet.failure AS f"
            " WHERE f.collection_id = j.collection_id AND f.text_id = t.id)"
            " AND NOT EXISTS (SELECT FROM embedfleet.batch AS b"
            " WHERE b.collection_id = j.collection_id AND t.id = ANY (b.texts)"
            " AND b.state IN ('pending', 'held', 'leased'))"
        )
        assert {text for (text,) in stranded} <= self.model.lost

    def nothing_counts_as_embedded_that_got_no_vector(self):
        model = self.model
        assert all(each.stored <= each.got for each in model.batches.values())
        for job in model.jobs:
            found = self.fleet.job(job).status
            mine = [each for each in model.batches.values() if each.job == job]
            is_open = [each for each in mine if each.state in OPEN]
            dead = [each for each in mine if each.state == "dead"]
            awaited, waits = model.jobs[job].awaited, model.is_waiting(job)
            came = not (waits or model.jobs[job].cancelled)
            assert (
                sum(each.stored for each in mine) + awaited * came,
                sum(each.chunks - each.stored for each in is_open) + awaited * waits,
                sum(each.chunks - each.stored for each in dead),
            ) == (found.embedded, found.queued, found.failed)

    def teardown(self):
        try:
            self.drain()
            self.all_is_well()
        finally:
            self.docs.drop()

    def drain(self):
        """Let everything end as workers would: what is leased is committed, the rest claimed."""
        self.resume_space()
        for job in self.model.jobs:
            self.fleet.job(job).resume()
            self.model.resume(job)
        for _ in range(1_000):
            if not self.unsettled:
                return
            while self.leased:
                self.commit(0)
            self.time_passes()
            self.claim(0)
            if not self.leased:
                self.repair()

    def all_is_well(self):
        self.all_holds()
        found = self.docs.audit()
        assert found.clean
        assert (0, 0) == (found.waiting, found.waiting_documents)
        assert found.texts == found.stored + found.failed
        ended = [self.fleet.job(job).status for job in self.model.jobs]
        assert all(each.finished and not each.queued for each in ended)

    @property
    def unsettled(self) -> bool:
        """Whether there is something to claim, or something that only a repair would find."""
        is_open = any(each.state in OPEN for each in self.model.batches.values())
        is_waiting = any(each.waiting for each in self.model.documents.values())
        return is_open or is_waiting or bool(self.model.missing())

    @property
    def leased(self) -> list[tuple[Lease, Claim]]:
        return [each for each in self.claims if self.model.stands(each[1])]

    @property
    def stale(self) -> list[tuple[Lease, Claim]]:
        return [each for each in self.claims if not self.model.stands(each[1])]

    @property
    def table(self) -> str:
        return f"embedfleet.{self.docs.info.vectors}"

    @property
    def documents(self) -> str:
        return f"embedfleet.{self.docs.info.documents}"

    @property
    def texts(self) -> str:
        return f"embedfleet.{self.docs.info.texts}"

    @property
    def chunks(self) -> str:
        return f"embedfleet.{self.docs.info.chunks}"

    def adopt(self, job, texts):
        """Take over how the texts of a new job were packed, and that they are all there."""
        found = self.execute(
            "SELECT id, texts FROM embedfleet.batch WHERE job_id = %s ORDER BY id", job
        )
        self.contents |= dict(self.execute(f"SELECT id, content FROM {self.texts}"))
        # It may have got batches of others too, which it waits for.
        packed = {
            number: [self.contents[each] for each in numbers]
            for number, numbers in found
            if number not in self.model.batches
        }
        assert sorted(texts) == sorted(text for each in packed.values() for text in each)
        self.model.put(job, packed)

    def children(self, number):
        statement = "SELECT id FROM embedfleet.batch WHERE parent_id = %s ORDER BY id"
        return [child for (child,) in self.execute(statement, number)]

    def count_vectors(self, change):
        """Of what only a person with SQL can do."""
        delta = "INSERT INTO embedfleet.counter_delta (collection_id, vectors) VALUES (%s, %s)"
        self.execute(delta, self.docs.info.id, change)

    def rows(self, statement):
        return self.execute(statement, self.docs.info.id)

    def execute(self, statement, *values):
        with self.fleet.db.transaction() as conn:
            cursor = conn.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def chosen(things, pick):
    return list(things)[pick % len(things)]


def vectors_of(lease: Lease):
    if not lease.texts:
        return np.empty((0, 4), dtype=np.float32)
    return fake_vectors(lease.collection.space, lease.texts, "document")


def run(fleet, monkeypatch, examples, *, nightly) -> Counter:
    # A batch whose texts are just being embedded waits until the machine lets time pass.
    monkeypatch.setattr(claims, "OVERLAP_S", 3600.0)
    steps, taken = Counter(), watched(fleet)
    run_state_machine_as_test(
        lambda: BatchMachine(fleet, steps),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS_PER_EXAMPLE,
            # The quick part takes the same steps each time, and none to make a failure shorter.
            derandomize=not nightly,
            phases=(Phase.generate, Phase.shrink) if nightly else (Phase.generate,),
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert taken() <= DECLARED
    return steps


@pytest.mark.timeout(1_800)
def test_five_hundred_steps_leave_the_rows_that_the_model_expects(fleet, monkeypatch):
    assert run(fleet, monkeypatch, 11, nightly=False)["steps"] >= 500


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_ten_thousand_steps_leave_the_rows_that_the_model_expects(fleet, monkeypatch, report):
    steps = run(fleet, monkeypatch, 300, nightly=True)
    report(steps_of_the_state_machine=steps["steps"], examples=steps["examples"])
    assert steps["steps"] >= 10_000
