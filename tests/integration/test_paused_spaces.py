"""A provider refuses: its space stands still for the whole fleet until a person resumes it."""

import asyncio
from decimal import Decimal

import pytest
from pydantic import SecretStr

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import BudgetSpent, JobPaused, LeaseLost, UnknownModel, UsageError
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedding_errors import ProviderStopped
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.fleets import ask, batches_of
from plugins.invariants import check
from plugins.pauses import EMPTY, commit, documents, states, stop
from plugins.pipelines import PartsEmbedder, ScriptedEmbedder, finish, pipeline_around


@pytest.fixture
def others(fleet):
    return fleet.collection("others", model="fake/8")


def test_what_waits_for_the_space_is_held_and_other_spaces_go_on(fleet, docs, others):
    job, other = docs.enqueue(documents(60)), others.enqueue(documents(10))
    lease = stop(fleet)
    assert ["held"] == states(fleet, job)
    assert [(0, f"insufficient_quota: {EMPTY}")] == ask(
        fleet, "SELECT errors, reason FROM embedfleet.batch WHERE id = %s", lease.id
    )
    claimed = batches_of(fleet).claim("cpu")
    assert other.id == claimed.job_id


def test_a_paused_space_is_told_with_its_reason_and_what_to_run(fleet, docs):
    job = docs.enqueue(documents(60))
    stop(fleet)
    (space,) = fleet.paused()
    assert ("fake/16", "insufficient_quota", EMPTY) == (space.model, space.code, space.reason)
    assert (["docs"], space.held) == (space.collections, job_batches(fleet, job))
    status = job.status
    assert ("paused", "fake/16") == (status.state, status.resume)
    assert f"fake/16 is paused (insufficient_quota): {EMPTY}" == status.reason
    told = str(docs.explain("d0"))
    assert "is held because its model is paused" in told
    assert f"(insufficient_quota): {EMPTY}. Go on with: embedfleet resume fake/16." in told


def job_batches(fleet, job):
    return ask(fleet, "SELECT count(*) FROM embedfleet.batch WHERE job_id = %s", job.id)[0][0]


def test_the_first_reason_stays_when_others_come_late(fleet, docs):
    docs.enqueue(documents(60))
    first, second = batches_of(fleet), batches_of(fleet)
    late = second.claim("cpu")
    first.pause_space(first.claim("cpu"), code="insufficient_quota", reason=EMPTY)
    second.pause_space(late, code="401", reason="unauthorized")
    (space,) = fleet.paused()
    assert ("insufficient_quota", EMPTY) == (space.code, space.reason)


def test_who_lost_the_lease_pauses_nothing(fleet, docs):
    docs.enqueue(documents(60))
    store = batches_of(fleet)
    late = store.claim("cpu")
    past = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    ask(fleet, past, late.id)
    sweep(fleet.db)
    with pytest.raises(LeaseLost):
        store.pause_space(late, code="c", reason="r")
    assert [] == fleet.paused()


def test_what_is_under_way_may_finish_and_what_is_put_back_is_held(fleet, docs):
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    done, deferred, halved = (store.claim("cpu") for _ in range(3))
    stop(fleet)
    commit(store, done)
    store.defer(deferred, delay_s=0, reason="r")
    store.split(halved, reason="r")
    assert ["done", "held", "split"] == states(fleet, job)


def test_a_batch_that_comes_back_from_a_dead_worker_is_held(fleet, docs):
    job = docs.enqueue(documents(60))
    store = batches_of(fleet)
    lost = store.claim("cpu")
    stop(fleet)
    past = "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s' WHERE id = %s"
    ask(fleet, past, lost.id)
    sweep(fleet.db)
    assert ["held"] == states(fleet, job)


def test_the_sweep_holds_what_slipped_through(fleet, docs):
    job = docs.enqueue(documents(60))
    stop(fleet)
    ask(fleet, "UPDATE embedfleet.batch SET state = 'pending'")
    sweep(fleet.db)
    assert ["held"] == states(fleet, job)


def test_enqueueing_into_a_paused_space_works_and_waits(fleet, docs):
    docs.enqueue(documents(3))
    stop(fleet)
    job = docs.enqueue(documents(20, "later"))
    assert ("paused", ["held"]) == (job.status.state, states(fleet, job))
    assert fleet.resume("fake/16")
    assert ["pending"] == states(fleet, job)


def test_a_space_that_is_resumed_goes_on_where_it_was(fleet, docs, worker):
    job = docs.enqueue(documents(60))
    lease = stop(fleet)
    assert fleet.resume("fake/16")
    assert ([], ["pending"]) == (fleet.paused(), states(fleet, job))
    assert lease.id == batches_of(fleet).claim("cpu").id
    assert not fleet.resume("fake/16")


def test_a_model_that_nobody_uses_cannot_be_resumed(fleet, docs):
    with pytest.raises(UnknownModel, match="No collection uses the model 'fake/17'"):
        fleet.resume("fake/17")


def test_all_spaces_of_a_model_are_resumed_together(fleet, docs):
    docs.enqueue(documents(3))
    prompted = fleet.collection("prompted", model="fake/16", document_prompt="passage: ")
    prompted.enqueue(documents(3))
    stop(fleet)
    stop(fleet)
    assert 2 == len(fleet.paused())
    fleet.resume("fake/16")
    assert [] == fleet.paused()


def test_a_paused_job_stays_held_when_its_space_is_resumed(fleet, docs):
    paused, free = docs.enqueue(documents(20)), docs.enqueue(documents(20, "f"))
    paused.pause()
    stop(fleet)
    fleet.resume("fake/16")
    assert (["held"], ["pending"]) == (states(fleet, paused), states(fleet, free))
    assert ("paused", str(paused.id)) == (paused.status.state, paused.status.resume)


def test_a_job_that_is_resumed_in_a_paused_space_stays_held(fleet, docs):
    job = docs.enqueue(documents(20))
    stop(fleet)
    job.pause()
    job.resume()
    assert (["held"], "fake/16") == (states(fleet, job), job.status.resume)
    fleet.resume("fake/16")
    assert ["pending"] == states(fleet, job)


def test_a_cancelled_job_of_a_paused_space_is_over(fleet, docs):
    job = docs.enqueue(documents(60))
    lease = batches_of(fleet).claim("cpu")
    stop(fleet)
    job.cancel()
    batches_of(fleet).defer(lease, delay_s=0, reason="r")
    assert (["cancelled"], "cancelled") == (states(fleet, job), job.status.state)
    fleet.resume("fake/16")
    assert ["cancelled"] == states(fleet, job)


def test_the_pipeline_pauses_the_space_and_says_so_without_quoting_a_text(fleet, docs):
    private = "a text that a provider repeats in its message"
    docs.enqueue([ef.Document("d", private)])

    def refuse(_number):
        stop = Stop("invalid_api_key", f"no: {private}")
        raise ProviderStopped(stop, provider="fake", model="fake/16")

    pipeline, stats = pipeline_around(fleet, PartsEmbedder(docs.info.space, 1, before=refuse))
    assert ["stopped", "idle"] == [pipeline.run_one("cpu"), pipeline.run_one("cpu")]
    assert ["stopped"] == [each.outcome for each in stats]
    (space,) = fleet.paused()
    assert ("invalid_api_key", True) == (space.code, private not in space.reason)
    fleet.resume("fake/16")
    healthy, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, lambda _, v: v))
    assert ["done"] == finish(fleet, healthy)


def stopped(url):
    async def look():
        store = RedisStore(url)
        try:
            states = {key.provider: await store.clock_state(key) for key in await store.keys()}
            return {provider: state.stopped for provider, state in states.items()}
        finally:
            await store.close()

    return asyncio.run(look())


@pytest.mark.usefixtures("patient")
def test_resuming_a_model_takes_back_the_alarm_of_its_provider_and_of_no_other(fleet, docs):
    alarm = Stop("insufficient_quota", EMPTY)

    async def sound():
        store = RedisStore(fleet.settings.redis)
        for provider in ("fake", "other"):
            await store.stop(LimitKey(provider, "account", "16"), alarm, "here")
        await store.close()

    asyncio.run(sound())
    fleet.resume("fake/16")
    assert {"fake": None, "other": alarm} == stopped(fleet.settings.redis)


def test_a_model_is_resumed_while_redis_is_away_with_a_warning(fleet, docs, caplog):
    docs.enqueue(documents(3))
    stop(fleet)
    nowhere = fleet.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with Fleet(nowhere) as cut_off:
        assert cut_off.resume("fake/16")
    assert [] == fleet.paused()
    assert "Redis did not get the resumption of fake/16" in caplog.text


# Budgets.


def spend(fleet, docs, price, size=2, **options):
    embedder = PartsEmbedder(docs.info.space, size)
    pipeline, _ = pipeline_around(fleet, embedder, price=price, **options)
    return pipeline


def budgeted(fleet, docs, usd, count=60):
    """A job whose texts cost 10 tokens each, with a budget."""
    job = docs.enqueue(documents(count))
    ask(fleet, "UPDATE embedfleet.job SET budget_usd = %s WHERE id = %s", usd, job.id)
    return job


def test_a_job_whose_budget_is_spent_is_paused_and_says_so(fleet, docs):
    # 100 USD for a million tokens: a text costs 0.001, and may cost 0.0016.
    job = budgeted(fleet, docs, 0.004)
    assert ["done", "done"] == finish(fleet, spend(fleet, docs, 100.0))
    status = job.status
    left = "$0.001 of the budget of $0.004 is left, less than its next text may cost"
    reason = f"{left}; go on with: embedfleet resume {job.id} --budget USD"
    assert ("paused", reason) == (status.state, status.reason)
    assert (0.004, str(job.id)) == (status.budget_usd, status.resume)
    # Two at first, and one more when it was known what they cost.
    assert (0.003, 3, 57) == (pytest.approx(status.spent_usd), status.embedded, status.queued)


def test_an_amount_far_below_a_cent_is_not_said_to_be_nothing(fleet, docs):
    job = budgeted(fleet, docs, Decimal("4e-7"))
    finish(fleet, spend(fleet, docs, 0.01))
    assert job.status.reason.startswith("$0.0000001 of the budget of $0.0000004 is left")
    with pytest.raises(BudgetSpent, match=r"spent \$0\.0000003 of \$0\.0000003\."):
        job.resume(budget_usd=Decimal("3e-7"))


def test_who_waits_for_a_job_is_told_that_its_budget_is_spent(fleet, docs):
    job = budgeted(fleet, docs, 0.004)
    finish(fleet, spend(fleet, docs, 100.0))
    with pytest.raises(JobPaused, match=f"embedfleet resume {job.id} --budget USD"):
        job.wait(timeout_s=60)


def test_a_worker_that_knows_no_price_leaves_a_budget_to_one_that_does(fleet, docs):
    """The price was set where it was enqueued, and not on all machines where it is embedded."""
    job = budgeted(fleet, docs, 1.0)
    free = docs.enqueue(documents(20, "free"))
    unpriced = spend(fleet, docs, None)
    while unpriced.run_one("cpu") != "idle":
        pass
    status = job.status
    assert ("running", 0, "done") == (status.state, status.embedded, free.status.state)
    assert "EMBEDFLEET_PRICES" in status.reason
    priced = spend(fleet, docs, 1.0)
    assert ("idle", "done") == (unpriced.run_one("cpu"), priced.run_one("cpu"))
    finish(fleet, priced)
    assert ("done", 60) == (job.status.state, job.status.embedded)


@pytest.mark.parametrize("stop", ["pause", "cancel"])
def test_a_batch_that_answers_in_parts_ends_with_its_job(fleet, docs, stop):
    job = docs.enqueue(documents(60))
    embedder = PartsEmbedder(
        docs.info.space, 2, before=lambda number: number == 3 and getattr(job, stop)()
    )
    pipeline, _ = pipeline_around(fleet, embedder)
    assert "defer" == pipeline.run_one("cpu")
    # The fourth part was under way when the job was stopped.
    assert (8, 8) == (len(embedder.sent), job.status.embedded)
    assert "idle" == pipeline.run_one("cpu")
    check(fleet)


def test_a_spent_budget_has_to_be_raised_to_go_on(fleet, docs):
    job = budgeted(fleet, docs, 0.0048)
    finish(fleet, spend(fleet, docs, 100.0))
    ask(fleet, "UPDATE embedfleet.job SET budget_usd = 0.004")
    assert 0.004 == job.status.spent_usd
    with pytest.raises(BudgetSpent, match=f"embedfleet resume {job.id} --budget USD"):
        job.resume()
    assert "paused" == job.status.state
    with pytest.raises(BudgetSpent):
        job.resume(budget_usd=0.0039)
    assert 0.004 == job.status.budget_usd
    job.resume(budget_usd=10)
    assert ("running", 10.0) == (job.status.state, job.status.budget_usd)
    finish(fleet, spend(fleet, docs, 100.0))
    assert ("done", 60) == (job.status.state, job.status.embedded)


@pytest.mark.parametrize("usd", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_an_amount_of_money(fleet, docs, usd):
    job = docs.enqueue(documents(3))
    with pytest.raises(UsageError, match="above 0 USD"):
        job.resume(budget_usd=usd)


def test_a_job_within_its_budget_is_not_paused(fleet, docs):
    job = budgeted(fleet, docs, 1.0)
    finish(fleet, spend(fleet, docs, 100.0))
    assert ("done", None) == (job.status.state, job.status.reason)
    assert 0.06 == pytest.approx(job.status.spent_usd)


def test_a_budget_of_one_job_stops_no_other(fleet, docs):
    limited = budgeted(fleet, docs, 0.004)
    free = docs.enqueue(documents(20, "free"))
    finish(fleet, spend(fleet, docs, 100.0))
    assert ("paused", "done") == (limited.status.state, free.status.state)
