"""Provider batches: every text ends with one vector or one failure, and nothing is filed twice."""

from decimal import Decimal

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.catalogue.provider_batch_prices import check_delivery
from embedfleet_schema.errors import (
    FailpointHit,
    ProviderBatchesUnsupported,
    WrongType,
)
from embedfleet_schema.leadership import PROVIDER_BATCHES, Leadership
from embedfleet_schema.store import provider_batches
from embedfleet_schema.store.sweep import sweep
from embedfleet_schema.types import Space
from plugins.provider_batch_fleets import (
    MODEL,
    PRICE,
    ProviderBatchFleet,
    names,
    take_turn,
    text_of,
)
from plugins.provider_dialects import tokens_of

CRASH_POINTS = (
    "after_provider_batch_lease",
    "after_provider_batch_upload",
    "after_provider_batch_create",
)


def tokens(*filed: str) -> int:
    return sum(tokens_of(text_of(name)) for name in filed)


def test_texts_are_filed_answered_and_entered_at_half_the_price(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(20))
    assert [] == batch_fleet.work()
    batch_fleet.look()
    assert names(20) == batch_fleet.filed()
    assert "filed with the provider's batch API since" in str(job.status.reason)
    assert "filed with the provider's batch API" in str(batch_fleet.docs.explain("d000"))
    batch_fleet.look()
    assert [] == batch_fleet.stored()
    batch_fleet.server.complete()
    batch_fleet.look()
    assert names(20) == batch_fleet.stored()
    assert ("done", 20, 0) == (job.status.state, job.status.embedded, job.status.failed)
    (spent,) = batch_fleet.fleet.usage()
    assert (20, 20, tokens(*names(20))) == (spent.requests, spent.texts, spent.tokens)
    assert Decimal(str(PRICE)) / 2 * tokens(*names(20)) / 1_000_000 == spent.usd
    assert {} == batch_fleet.server.files
    assert ["done"] == batch_fleet.provider_batches()
    batch_fleet.check()


def test_vectors_are_those_of_the_ordinary_endpoint(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(5))
    batch_fleet.look()
    batch_fleet.server.complete()
    batch_fleet.look()
    expected = batch_fleet.docs.embed_query(text_of("d003"))
    (best, *_) = batch_fleet.docs.search(expected, k=1)
    assert ("d003", 1.0) == (best.document, pytest.approx(best.score, abs=1e-6))


@pytest.mark.parametrize("place", CRASH_POINTS)
def test_after_a_crash_nothing_is_lost_and_nothing_is_filed_twice(
    place, batch_fleet: ProviderBatchFleet
):
    job = batch_fleet.enqueue(*names(20))
    with pytest.raises(FailpointHit):
        take_turn(batch_fleet.failing(f"{place}=raise"))
    # Too early to tell a dead process from a slow one.
    batch_fleet.look()
    assert ["filing"] == batch_fleet.provider_batches()
    batch_fleet.look(dead_after_s=0)
    batch_fleet.look()
    assert names(20) == batch_fleet.filed()
    batch_fleet.server.complete()
    batch_fleet.look()
    assert names(20) == batch_fleet.stored()
    assert "done" == job.status.state
    assert {} == batch_fleet.server.files
    batch_fleet.check()


def test_a_batch_is_found_again_behind_many_newer_ones(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(3))
    with pytest.raises(FailpointHit):
        take_turn(batch_fleet.failing("after_provider_batch_create=raise"))
    for number in range(9):
        batch_fleet.server._create(
            {
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
                "input_file_id": "file-of-others",
                "metadata": {"embedfleet_file": str(number)},
            }
        )
    batch_fleet.look(dead_after_s=0)
    assert ["filed"] == batch_fleet.provider_batches()
    assert names(3) == batch_fleet.filed()


def test_a_batch_whose_making_was_not_confirmed_is_looked_for(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(3))
    batch_fleet.server.forgets_answer_to.add(("POST", "/batches"))
    batch_fleet.look()
    assert ["filing"] == batch_fleet.provider_batches()
    batch_fleet.look(dead_after_s=0)
    assert (["filed"], names(3)) == (batch_fleet.provider_batches(), batch_fleet.filed())


def test_who_was_taken_for_dead_calls_its_batch_off(batch_fleet: ProviderBatchFleet):
    """It stood still between two requests, and another process gave its texts back."""
    batch_fleet.enqueue(*names(3))
    runner = batch_fleet.runner()
    create = runner._api.create

    def late(input_file_id: str, token: str):
        made = create(input_file_id, token)
        with batch_fleet.fleet.db.transaction() as conn:
            conn.execute("UPDATE embedfleet.provider_batch SET state = 'failed'")
            conn.execute(
                "UPDATE embedfleet.batch SET state = 'pending', lease_until = NULL,"
                " run_after = now() + interval '1 hour'"
            )
        return made

    runner._api.create = late
    take_turn(runner)
    (batch,) = batch_fleet.server.batches.values()
    assert "cancelling" == batch.status


def test_each_text_ends_with_a_vector_or_a_failure(batch_fleet: ProviderBatchFleet):
    def fate(text: str):
        number = int(text[-3:])
        if number % 6 == 0:
            return 400, "invalid_request", f"cannot take: {text}"
        odd = {
            1: "expired",
            2: "missing",
            3: "spoilt",
            4: (429, "rate_limit_exceeded", "slow down"),
        }
        return odd.get(number % 12)

    job = batch_fleet.enqueue(*names(60))
    batch_fleet.look()
    batch_fleet.server.complete(fate)
    batch_fleet.look()
    refused = [name for name in names(60) if int(name[1:]) % 6 == 0]
    left = [name for name in names(60) if int(name[1:]) % 12 in (1, 2, 3, 4)]
    assert refused == batch_fleet.failed()
    assert ["api"] == batch_fleet.rung
    assert {"done"} == set(batch_fleet.work())
    assert left == sorted(text.split()[-1] for text in batch_fleet.server.embedded)
    assert sorted(set(names(60)) - set(refused)) == batch_fleet.stored()
    status = job.status
    assert ("done", 50, 10, 0) == (status.state, status.embedded, status.failed, status.queued)
    (failure, *_) = batch_fleet.docs.failures()
    assert "INPUT_REJECTED" == failure.code
    assert "some words" not in failure.reason
    batch_fleet.check()


def test_refusing_every_text_is_left_to_the_ordinary_endpoint(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    batch_fleet.server.complete(lambda _: (400, "unknown_parameter", "no"))
    batch_fleet.look()
    assert [] == batch_fleet.failed()
    batch_fleet.work()
    assert names(10) == batch_fleet.stored()


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_was_answered_before_the_end_is_kept(status, batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(20))
    batch_fleet.look()
    batch_fleet.server.complete(
        lambda text: "expired" if int(text[-3:]) >= 12 else None, as_=status
    )
    batch_fleet.look()
    assert names(20)[:12] == batch_fleet.stored()
    batch_fleet.work()
    assert names(20) == batch_fleet.stored()
    assert 8 == len(batch_fleet.server.embedded)
    batch_fleet.check()


@pytest.mark.parametrize("part", [1, 2, 4])
def test_a_harvest_that_died_is_done_again_and_paid_once(part, batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(20))
    batch_fleet.look()
    batch_fleet.server.complete(lambda text: (400, "bad", "no") if text.endswith("7") else None)
    with pytest.raises(FailpointHit):
        take_turn(batch_fleet.failing(f"after_provider_batch_part=raise:#{part}", buffer_bytes=100))
    assert ["filed"] == batch_fleet.provider_batches()
    batch_fleet.look()
    assert ["d007", "d017"] == batch_fleet.failed()
    assert 18 == len(batch_fleet.stored())
    (spent,) = batch_fleet.fleet.usage()
    assert (18, "done") == (spent.texts, job.status.state)
    batch_fleet.check()


def test_a_file_that_breaks_off_is_fetched_again(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(20))
    batch_fleet.look()
    batch_fleet.server.complete()
    batch_fleet.server.truncate = 700
    batch_fleet.look()
    assert (["filed"], []) == (batch_fleet.provider_batches(), batch_fleet.stored())
    batch_fleet.look()
    assert (["done"], names(20)) == (batch_fleet.provider_batches(), batch_fleet.stored())
    assert [] == batch_fleet.server.embedded


def test_where_no_room_is_left_the_texts_wait_and_go_in_smaller_files(
    batch_fleet: ProviderBatchFleet,
):
    job = batch_fleet.enqueue(*names(20))
    batch_fleet.look()
    limit = tokens(*names(11))
    batch_fleet.server.fail(
        "token_limit_exceeded",
        f"Enqueued token limit reached for a-model. Limit: {limit:,} enqueued tokens.",
    )
    batch_fleet.look()
    assert {("pending", "provider_batch"): 5} == batch_fleet.states()
    assert f"it lets {limit:,} tokens wait" in str(job.status.reason)
    batch_fleet.look()
    assert 1 == len(batch_fleet.server.batches), "it waits"
    batch_fleet.make_due()
    batch_fleet.look()
    _, second = batch_fleet.server.batches.values()
    assert 0 < len(batch_fleet.server.lines(second)) < 11
    while "done" != job.status.state:
        batch_fleet.server.complete()
        batch_fleet.make_due()
        batch_fleet.look()
    assert names(20) == batch_fleet.stored()
    batch_fleet.check()


@pytest.mark.parametrize("stopped", ["paused_at", "cancelled_at"])
def test_what_a_pause_has_not_come_to_yet_is_not_filed(
    stopped: str, batch_fleet: ProviderBatchFleet
):
    batch_fleet.enqueue(*names(5))
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute(f"UPDATE embedfleet.job SET {stopped} = now()")
    batch_fleet.look()
    assert [] == batch_fleet.provider_batches()


def test_an_account_without_credit_pauses_the_model(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(10))
    batch_fleet.server.refusals["POST", "/files"] = (429, "insufficient_quota", "no money")
    batch_fleet.look()
    (paused,) = batch_fleet.fleet.paused()
    assert ("insufficient_quota", "paused") == (paused.code, job.status.state)
    batch_fleet.server.refusals.clear()
    batch_fleet.look()
    assert [] == batch_fleet.filed()
    batch_fleet.fleet.resume(MODEL)
    batch_fleet.look()
    assert names(10) == batch_fleet.filed()


def test_a_batch_that_lost_its_credit_pauses_the_model_too(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    batch_fleet.server.fail("billing_hard_limit_reached")
    batch_fleet.look()
    assert {("held", "provider_batch")} == set(batch_fleet.states())
    assert "billing_hard_limit_reached" == batch_fleet.fleet.paused()[0].code


def test_another_failure_of_the_whole_batch_goes_to_the_workers(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    batch_fleet.server.fail("invalid_json_line")
    batch_fleet.look()
    assert {("pending", "direct")} == set(batch_fleet.states())
    batch_fleet.work()
    assert names(10) == batch_fleet.stored()
    assert (["failed"], {}) == (batch_fleet.provider_batches(), batch_fleet.server.files)


@pytest.mark.parametrize("asked", [("POST", "/files"), ("POST", "/batches")])
def test_a_server_without_a_batch_api_leaves_it_to_the_workers(
    asked, batch_fleet: ProviderBatchFleet
):
    batch_fleet.enqueue(*names(10))
    batch_fleet.server.refusals[asked] = (404, "", "what is that?")
    batch_fleet.look()
    batch_fleet.work()
    assert names(10) == batch_fleet.stored()


def test_a_provider_that_is_down_is_asked_again_later(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.server.refusals["POST", "/files"] = (503, "", "down")
    batch_fleet.look()
    assert {("pending", "provider_batch")} == set(batch_fleet.states())
    batch_fleet.server.refusals.clear()
    batch_fleet.look()
    assert [] == batch_fleet.filed()
    batch_fleet.make_due()
    batch_fleet.look()
    assert names(10) == batch_fleet.filed()


def test_a_batch_that_the_provider_forgot_goes_to_the_workers(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    batch_fleet.server.batches.clear()
    batch_fleet.look()
    assert {("pending", "direct")} == set(batch_fleet.states())


def test_a_late_batch_is_called_off_and_its_answers_are_kept(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.provider_batch SET filed_at = now() - interval '27 hours'")
    batch_fleet.look()
    (batch,) = batch_fleet.server.batches.values()
    assert "cancelling" == batch.status
    batch_fleet.server.complete(
        lambda text: "missing" if "d00" not in text else None, as_="cancelled"
    )
    batch_fleet.look()
    assert names(10) == batch_fleet.stored()


@pytest.mark.parametrize("answered", [0, 4])
def test_what_comes_back_takes_turns_with_what_waits(
    answered: int, batch_fleet: ProviderBatchFleet
):
    """Nobody took turns for it while it was filed, and it goes before nobody."""
    filed = [ef.Document(name, text_of(name)) for name in names(10)]
    batch_fleet.docs.enqueue(filed, provider_batches=True, lane="bulk")
    batch_fleet.look()
    others = [ef.Document(f"other {n}", text_of(f"another {n}")) for n in range(20)]
    batch_fleet.docs.enqueue(others, lane="bulk", tenant="another")
    ((waiting, served),) = batch_fleet.ask(
        "UPDATE embedfleet.batch SET state = 'held' WHERE delivery = 'direct' AND start_tag = 0"
        " RETURNING (SELECT count(*) FROM embedfleet.batch WHERE delivery = 'direct'),"
        " (SELECT min(start_tag) FROM embedfleet.batch WHERE start_tag > 0)"
    )
    assert waiting > 2
    if answered:
        batch_fleet.server.complete(
            lambda text: None if int(text[-3:]) < answered else "missing", as_="cancelled"
        )
    else:
        batch_fleet.server.batches.clear()
    batch_fleet.look()
    tags = batch_fleet.ask(
        "SELECT b.start_tag FROM embedfleet.batch AS b JOIN embedfleet.job AS j ON j.id = b.job_id"
        " WHERE j.tenant <> 'another' AND b.state = 'pending' ORDER BY 1"
    )
    assert tags[0][0] >= served
    assert len(set(tags)) == len(tags) >= 2


@pytest.mark.parametrize("state", ["filing", "filed"])
def test_what_cannot_be_asked_for_goes_to_the_workers_in_the_end(
    state: str, batch_fleet: ProviderBatchFleet
):
    """Neither its answers nor an end can be had: no cancel, no list, no file."""
    batch_fleet.enqueue(*names(10))
    if state == "filing":
        with pytest.raises(FailpointHit):
            take_turn(batch_fleet.failing("after_provider_batch_create=raise"))
    else:
        batch_fleet.look()
    for route in (("POST", "/cancel"), ("GET", "/batches")):
        batch_fleet.server.refusals[route] = (503, "", "down")
    for hours, left in ((27, {("leased", "provider_batch")}), (29, {("pending", "direct")})):
        with batch_fleet.fleet.db.transaction() as conn:
            conn.execute(
                "UPDATE embedfleet.provider_batch"
                " SET created_at = now() - make_interval(hours => %s),"
                " filed_at = CASE WHEN state = 'filed' THEN now() - make_interval(hours => %s) END",
                (hours, hours),
            )
        batch_fleet.look(dead_after_s=0)
        assert left == set(batch_fleet.states())


def test_another_account_that_does_not_know_a_batch_leaves_it_to_its_own(
    batch_fleet: ProviderBatchFleet,
):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    batches = dict(batch_fleet.server.batches)
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.provider_batch SET account = 'of somebody'")
    batch_fleet.server.batches.clear()
    batch_fleet.look()
    assert {("leased", "provider_batch")} == set(batch_fleet.states())
    batch_fleet.server.batches.update(batches)
    batch_fleet.server.complete()
    batch_fleet.look()
    assert names(10) == batch_fleet.stored()


def test_room_at_the_provider_is_that_of_the_model_and_not_of_a_space(
    batch_fleet: ProviderBatchFleet,
):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    db = batch_fleet.fleet.db
    narrow = batch_fleet.fleet.collection("narrow", model=MODEL, dimensions=4, max_tokens=512)
    spaces = (batch_fleet.docs.info.space_id, narrow.info.space_id)
    assert spaces[0] != spaces[1]
    waiting, also = (provider_batches.waiting_tokens(db, space_id) for space_id in spaces)
    assert waiting == also > 0


def test_cancelled_jobs_end_at_once_and_so_does_their_batch(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    job.cancel()
    batch_fleet.look()
    (batch,) = batch_fleet.server.batches.values()
    assert "cancelling" == batch.status
    assert {("cancelled", "provider_batch")} == set(batch_fleet.states())
    batch_fleet.server.complete(lambda text: "missing" if text[-1] > "3" else None, as_="cancelled")
    batch_fleet.look()
    (spent,) = batch_fleet.fleet.usage()
    assert ([], 4, ["done"]) == (batch_fleet.stored(), spent.texts, batch_fleet.provider_batches())


def test_a_cancelled_job_beside_another_one_ends_with_the_harvest(batch_fleet: ProviderBatchFleet):
    gone, kept = batch_fleet.enqueue(*names(20)[:10]), batch_fleet.enqueue(*names(20)[10:])
    batch_fleet.look()
    gone.cancel()
    batch_fleet.look()
    batch_fleet.server.complete(lambda text: "missing" if text < text_of("d005") else None)
    batch_fleet.look()
    assert ("cancelled", "done") == (gone.status.state, kept.status.state)
    assert names(20)[5:] == batch_fleet.stored()
    assert [] == batch_fleet.work()


def test_a_paused_job_is_not_filed(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(5))
    job.pause()
    batch_fleet.look()
    assert [] == batch_fleet.filed()
    job.resume()
    batch_fleet.look()
    assert names(5) == batch_fleet.filed()


def test_texts_that_are_filed_already_are_not_filed_again(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    again = batch_fleet.enqueue(*names(12))
    batch_fleet.look()
    batch_fleet.server.complete()
    batch_fleet.look()
    batch_fleet.make_due()
    batch_fleet.look()
    batch_fleet.server.complete()
    batch_fleet.look()
    assert (names(12), names(12)) == (batch_fleet.filed(), batch_fleet.stored())
    assert "done" == again.status.state
    batch_fleet.check()


def test_who_wants_the_same_texts_now_does_not_wait_for_a_day(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    live = batch_fleet.enqueue(*names(10), provider_batches=False)
    assert {"done"} == set(batch_fleet.work())
    assert "done" == live.status.state
    batch_fleet.server.complete()
    batch_fleet.look()
    assert names(10) == batch_fleet.stored()
    batch_fleet.check()


def test_vectors_of_another_collection_are_not_paid_for(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(5), provider_batches=False)
    batch_fleet.work()
    other = batch_fleet.fleet.collection("other", model=MODEL, dimensions=8, max_tokens=512)
    job = other.enqueue(
        [ef.Document(name, text_of(name)) for name in names(8)], provider_batches=True
    )
    batch_fleet.look()
    assert names(8)[5:] == batch_fleet.filed()
    batch_fleet.server.complete()
    batch_fleet.look()
    assert (8, "done") == (job.status.embedded, job.status.state)


def test_the_sweep_leaves_what_is_filed_alone(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(10))
    batch_fleet.look()
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.batch SET lease_until = now() - interval '3 days'")
    swept = sweep(batch_fleet.fleet.db)
    assert swept is not None
    assert (0, {}) == (swept.reclaimed, swept.idle)
    batch_fleet.server.complete()
    batch_fleet.look()
    assert names(10) == batch_fleet.stored()
    assert [(0,)] == batch_fleet.ask("SELECT DISTINCT crashes FROM embedfleet.batch")


def test_a_budget_bounds_what_is_filed(batch_fleet: ProviderBatchFleet):
    budget = PRICE / 2 * tokens(*names(20)) / 1_000_000
    job = batch_fleet.enqueue(*names(40), budget_usd=budget)
    batch_fleet.look()
    filed = len(batch_fleet.filed())
    assert 0 < filed < 20
    assert 0 < job.status.reserved_usd <= budget
    # What is filed may cost all of the budget, until its answers say what it did.
    batch_fleet.look()
    assert filed == len(batch_fleet.filed())
    for _ in range(10):
        batch_fleet.server.complete()
        batch_fleet.look()
        assert (job.status.spent_usd or 0) + job.status.reserved_usd <= budget
        if job.status.state == "paused":
            break
    assert ("paused", 0) == (job.status.state, job.status.reserved_usd)
    assert filed < len(batch_fleet.stored()) == len(batch_fleet.filed()) < 20


def test_what_a_lost_file_may_have_cost_stays_with_its_job(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(10), budget_usd=1.0)
    batch_fleet.look()
    reserved = job.status.reserved_usd
    batch_fleet.ask(
        "UPDATE embedfleet.provider_batch SET filed_at = now() - interval '2 days' RETURNING id"
    )
    batch_fleet.look()
    assert ["failed"] == batch_fleet.provider_batches()
    assert (0, reserved) == (job.status.reserved_usd, job.status.unsettled_usd)


def test_a_process_that_knows_no_price_leaves_jobs_with_a_budget_to_others(
    batch_fleet: ProviderBatchFleet, monkeypatch: pytest.MonkeyPatch
):
    # Those that it leaves do not stand in the way of the others.
    monkeypatch.setattr("embedfleet_schema.store.provider_batches.MOST_BATCHES", 1)
    job = batch_fleet.enqueue(*names(10), budget_usd=1.0)
    free = batch_fleet.enqueue(*names(15)[10:])
    unpriced = Fleet(batch_fleet.fleet.settings.model_copy(update={"prices": {}}))
    for _ in range(2):
        take_turn(batch_fleet._made(unpriced))
    assert (names(15)[10:], "running") == (batch_fleet.filed(), job.status.state)
    assert "EMBEDFLEET_PRICES" in str(job.status.reason)
    assert "EMBEDFLEET_PRICES" in str(batch_fleet.docs.explain("d000"))
    assert "filed" in str(free.status.reason)
    batch_fleet.look()
    batch_fleet.server.complete()
    batch_fleet.look()
    assert ("done", 10) == (job.status.state, job.status.embedded)
    assert job.status.reason is None


def test_a_harvest_without_a_price_reckons_with_that_of_who_filed(batch_fleet: ProviderBatchFleet):
    job = batch_fleet.enqueue(*names(20), budget_usd=1.0)
    batch_fleet.look()
    batch_fleet.server.complete()
    unpriced = Fleet(batch_fleet.fleet.settings.model_copy(update={"prices": {}}))
    take_turn(batch_fleet._made(unpriced))
    assert ("done", 20) == (job.status.state, job.status.embedded)
    cost = PRICE / 2 * tokens(*names(20)) / 1_000_000
    assert pytest.approx(cost) == job.status.spent_usd


def test_a_job_is_filed_when_all_of_it_is_there_or_its_producer_is_silent(
    batch_fleet: ProviderBatchFleet,
):
    batch_fleet.enqueue(*names(5))
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.job SET loaded_at = NULL")
    batch_fleet.look()
    assert [] == batch_fleet.filed()
    batch_fleet.look(patience_s=0)
    assert names(5) == batch_fleet.filed()


def test_one_process_of_the_fleet_acts_at_a_time(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(5))
    leadership = Leadership(batch_fleet.fleet.db, PROVIDER_BATCHES)
    assert leadership.take()
    assert not batch_fleet.runner().run_once()
    leadership.give_back()
    take_turn(batch_fleet.runner())
    assert names(5) == batch_fleet.filed()


def test_a_collection_that_is_dropped_takes_its_batch_along(batch_fleet: ProviderBatchFleet):
    batch_fleet.enqueue(*names(5))
    batch_fleet.look()
    batch_fleet.docs.drop()
    batch_fleet.look()
    (batch,) = batch_fleet.server.batches.values()
    assert "cancelling" == batch.status
    batch_fleet.server.complete(as_="cancelled")
    batch_fleet.look()
    assert ["done"] == batch_fleet.provider_batches()


@pytest.mark.parametrize(
    ("provider", "version"), [("cohere", None), ("local", None), ("openai", "2024-10-21")]
)
def test_a_model_without_a_batch_api_is_refused_before_anything_is_stored(
    provider, version, fleet: Fleet
):
    settings = fleet.settings.model_copy(update={"openai_api_version": version})
    with pytest.raises(ProviderBatchesUnsupported, match="--provider-batches"):
        check_delivery("provider_batch", Space(provider, "m", 8, 512), settings)


def test_nothing_is_stored_where_provider_batches_are_refused(fleet: Fleet):
    docs = fleet.collection("docs", model="fake/8")
    with pytest.raises(ProviderBatchesUnsupported):
        docs.enqueue([ef.Document("a", "words")], provider_batches=True)
    assert [] == fleet.jobs()


def test_the_command_refuses_provider_batches_where_there_are_none(command, tmp_path):
    (tmp_path / "a.txt").write_text("some words")
    answer = command("enqueue", "docs", tmp_path, "--model", "fake/8", "--provider-batches")
    assert 2 == answer.code
    assert "Enqueue without --provider-batches" in answer.err


def test_provider_batches_is_true_or_false(batch_fleet: ProviderBatchFleet):
    with pytest.raises(WrongType, match="True or False"):
        batch_fleet.docs.enqueue([ef.Document("a", "words")], provider_batches="no")
