"""A budget is a limit: whatever many workers do at once, the ledger never exceeds it."""

import random
import re
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import BudgetSpent, JobPaused
from embedfleet_schema.store import budgets, usage
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.allowance import Allowance
from embedfleet_workers.embedding_errors import ReservationSpent
from plugins.api_fleets import MODEL
from plugins.fleets import ask, batches_of
from plugins.invariants import check
from plugins.pipelines import PartsEmbedder, finish, make_due, pipeline_around

PRICE = 100.0
MILLION = 1_000_000
WORKERS = 8
# What the server counts where we counted one token.
OVER = 1.3
POSITION = """
SELECT j.budget_usd, j.unsettled_usd,
    (SELECT coalesce(sum(u.usd), 0) FROM embedfleet.usage AS u WHERE u.job_id = j.id) AS spent,
    (SELECT coalesce(sum(b.reserved_usd), 0) FROM embedfleet.batch AS b WHERE b.job_id = j.id)
        AS reserved
FROM embedfleet.job AS j
WHERE j.id = %s
"""
UNPAID = """
SELECT min(t.tokens)
FROM embedfleet._texts_1 AS t
WHERE NOT EXISTS (SELECT FROM embedfleet.{vectors} AS v WHERE v.text_id = t.id)
    AND NOT EXISTS (SELECT FROM embedfleet.failure AS f WHERE f.text_id = t.id)
"""


def tokens_of(texts):
    """As the chunker counts for the fake model: every word is one."""
    return sum(len(text.split()) for text in texts)


def words(number, count):
    return " ".join(f"d{number}w{i}" for i in range(count))


@pytest.fixture
def docs(fleet):
    wide = Fleet(fleet.settings.model_copy(update={"batch_tokens_cpu": 512}))
    yield wide.collection("docs", model="fake/8")
    wide.close()


def limited(fleet, docs, texts, share, **options):
    """A job of some texts, with a share of what the server will bill for all of them."""
    job = docs.enqueue([ef.Document(f"d{n}", text) for n, text in enumerate(texts)])
    usd = share * OVER * tokens_of(texts) * PRICE / MILLION
    ask(fleet, "UPDATE embedfleet.job SET budget_usd = %s WHERE id = %s", f"{usd:.9f}", job.id)
    return job


def position(fleet, job):
    ((budget, unsettled, spent, reserved),) = ask(fleet, POSITION, job.id)
    return budget, unsettled, spent, reserved


def billing(texts):
    return -(-int(OVER * 10 * tokens_of(texts)) // 10)


class Worker:
    """One of many: its answers are sometimes of no use, and sometimes it dies with its calls."""

    def __init__(self, fleet: Fleet, docs, seed: int, crash_share: float) -> None:
        self._fleet = Fleet(fleet.settings)
        self._chance = random.Random(seed)
        self._crash_share = crash_share
        embedder = PartsEmbedder(docs.info.space, 3, answer=self._answer, bill=billing)
        self._pipeline, _ = pipeline_around(self._fleet, embedder, price=PRICE)
        self.unheard = Decimal(0)

    def _answer(self, _, vectors):
        return vectors * float("nan") if self._chance.random() < 0.1 else vectors

    def step(self) -> str:
        if self._chance.random() < self._crash_share:
            return self._crash()
        return self._pipeline.run_one("cpu")

    def _crash(self) -> str:
        lease = batches_of(self._fleet).claim("cpu", price_of=lambda _: PRICE)
        if lease is None:
            return "idle"
        self.unheard += usage.usd_of(billing(lease.texts), Decimal(PRICE))
        return "crashed"

    def close(self) -> None:
        self._fleet.close()


def work(fleet, job, docs, crash_share):
    """Eight workers until the job has ended or stands still; returns what nobody heard of."""
    workers = [Worker(fleet, docs, seed, crash_share) for seed in range(WORKERS)]
    wrong: list[tuple[Decimal, ...]] = []
    over = threading.Event()

    def run(worker: Worker) -> None:
        while not over.is_set():
            if worker.step() == "idle":
                over.wait(0.02)
            budget, unsettled, spent, reserved = position(worker._fleet, job)
            if spent + reserved + unsettled > budget:
                wrong.append((budget, unsettled, spent, reserved))

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    while not (job.status.finished or job.status.over_budget) and not wrong:
        # Nobody beats here, so a lease that is left behind is one of the dead.
        ask(
            fleet,
            "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s'"
            " WHERE state = 'leased' AND leased_at < now() - interval '3 s'",
        )
        sweep(fleet.db)
        make_due(fleet)
    over.set()
    for thread in threads:
        thread.join()
    for worker in workers:
        worker.close()
    assert [] == wrong
    return sum(worker.unheard for worker in workers)


@pytest.mark.parametrize(
    ("share", "crash_share"), [(0.02, 0), (0.4, 0), (0.9, 0), (2.0, 0), (0.5, 0.15)]
)
def test_the_ledger_never_exceeds_the_budget_and_little_of_it_is_left(
    fleet, docs, share, crash_share
):
    chance = random.Random(7)
    texts = [words(n, chance.randint(4, 60)) for n in range(120)]
    job = limited(fleet, docs, texts, share)
    work(fleet, job, docs, crash_share)
    status = job.status
    budget, unsettled, spent, _ = position(fleet, job)
    assert spent <= budget
    if status.state == "paused":
        ((smallest,),) = ask(fleet, UNPAID.format(vectors=docs.info.vectors))
        needed = budgets.bounds([smallest], docs.info.space)[0]
        assert usage.usd_of(needed, Decimal(PRICE)) > budget - spent - unsettled
    else:
        assert ("done", 120) == (status.state, status.embedded + status.failed)
    assert share < 1 or crash_share or status.state == "done"


def test_a_batch_that_does_not_fit_is_not_sent(fleet, docs):
    """One batch whose budget pays for a part of it, and for no more when that is answered."""
    texts = [words(n, 10) for n in range(20)]
    job = limited(fleet, docs, texts, 0.5)
    embedder = PartsEmbedder(docs.info.space, 4, bill=billing)
    finish(fleet, pipeline_around(fleet, embedder, price=PRICE)[0])
    budget, _, spent, reserved = position(fleet, job)
    assert ("paused", 0) == (job.status.state, reserved)
    assert 8 <= len(embedder.sent) <= 10
    assert spent <= budget
    check(fleet)


def test_a_text_that_is_dearer_than_the_budget_is_left_for_smaller_ones(fleet, docs):
    texts = [words(n, 400) for n in range(3)] + [words(9, 10)]
    job = limited(fleet, docs, texts, 0.05)
    embedder = PartsEmbedder(docs.info.space, 4, bill=billing)
    finish(fleet, pipeline_around(fleet, embedder, price=PRICE)[0])
    assert [texts[3]] == embedder.sent
    assert ("paused", 1) == (job.status.state, job.status.embedded)


def test_what_is_under_way_is_shown_and_waited_for(fleet, docs, command):
    texts = [words(n, 10) for n in range(100)]
    job = limited(fleet, docs, texts, 0.6)
    lease = batches_of(fleet).claim("cpu", price_of=lambda _: PRICE)
    held = [job.status.reserved_usd]
    assert pytest.approx(sum(lease.bounds) * PRICE / MILLION) == held[0]
    shown = command("status", job.id).out
    assert re.search(r"\$0\.00 of \$0\.\d+ spent, \$0\.\d+ reserved", shown), shown
    others = [batches_of(fleet).claim("cpu", price_of=lambda _: PRICE) for _ in range(3)]
    assert None in others
    assert "running" == job.status.state
    reason = ask(fleet, "SELECT max(reason) FROM embedfleet.batch WHERE state = 'pending'")[0][0]
    assert "reserved for batches under way" in reason


def test_what_a_lost_worker_had_reserved_counts_until_its_answers_are_heard_of(fleet, docs):
    job = limited(fleet, docs, [words(n, 10) for n in range(20)], 3)
    late = batches_of(fleet)
    lease = late.claim("cpu", price_of=lambda _: PRICE)
    reserved = Decimal(str(job.status.reserved_usd))
    ask(
        fleet,
        "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s",
        lease.id,
    )
    sweep(fleet.db)
    assert (0, reserved) == (job.status.reserved_usd, position(fleet, job)[1])
    spent = usage.spending(requests=1, texts=20, tokens=260, price=PRICE)
    late.spend(lease, spent)
    assert reserved - spent.usd == position(fleet, job)[1]
    job.pause()
    with pytest.raises(BudgetSpent):
        job.resume(budget_usd=float(reserved))


@given(st.lists(st.integers(1, 500)), st.integers(0, 10_000))
def test_what_fits_is_paid_for_and_nothing_more_would_fit(needed, tokens):
    rows = budgets.fitting(needed, Decimal(tokens))
    left = tokens - sum(needed[row] for row in rows)
    assert left >= 0
    assert all(needed[row] > left for row in set(range(len(needed))).difference(rows))


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 150)), max_size=60),
)
def test_an_allowance_pays_no_more_than_its_tokens_where_each_answer_keeps_to_its_bound(
    bounds, calls
):
    allowance, billed = Allowance(bounds), 0
    for row, tokens in calls:
        if row >= len(bounds):
            continue
        try:
            allowance.take([row])
        except ReservationSpent:
            continue
        cost = min(tokens, bounds[row])
        allowance.settle([row], cost)
        billed += cost
    assert billed <= sum(bounds)


def test_workers_keep_a_budget_with_a_server_that_bills_more_than_was_counted(api_fleet):
    """Eight slots, and a third more tokens in every answer."""
    api = api_fleet({"prices": {MODEL: PRICE}, "batch_tokens_api": 2_048}, charge=OVER)
    job = api.enqueue(200, words=50)
    ask(api.fleet, "UPDATE embedfleet.job SET budget_usd = 0.6 WHERE id = %s", job.id)
    with api.working(), pytest.raises(JobPaused, match="resume"):
        job.wait(timeout_s=90)
    billed = api.counts()["tokens"] * PRICE / MILLION
    assert pytest.approx(billed) == job.status.spent_usd
    assert 0.58 < billed <= 0.6
