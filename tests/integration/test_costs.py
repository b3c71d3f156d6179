"""Budgets that jobs are given, and the ledger as people see it."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadBudget, PriceUnknown, UsageError
from embedfleet_schema.store import usage

SMALL = "openai/text-embedding-3-small"


def today() -> date:
    return datetime.now(UTC).date()


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs", model=SMALL)


def spend(fleet, collection, *, tokens, price, day=None, requests=1, texts=1):
    spent = usage.spending(requests=requests, texts=texts, tokens=tokens, price=price)
    with fleet.db.transaction() as conn:
        usage.add(conn, collection.info.space_id, spent, job_id=None, worker_id=None)
        conn.execute(
            "UPDATE embedfleet.usage SET day = %s WHERE day = %s AND space_id = %s",
            (day or today(), today(), collection.info.space_id),
        )


def test_a_job_is_made_with_its_budget(docs):
    job = docs.enqueue([ef.Document("a", "some text")], budget_usd=0.25)
    assert 0.25 == job.status.budget_usd


def test_a_job_without_a_budget_has_none(docs):
    assert docs.enqueue([ef.Document("a", "some text")]).status.budget_usd is None


@pytest.mark.parametrize(
    "budget",
    [0, -1.5, float("nan"), float("inf"), *(pytest.param(10**n, id=f"1e{n}") for n in (400, 5000))],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_anything_is_stored(fleet, docs, budget):
    with pytest.raises(BadBudget, match="an amount above 0"):
        docs.enqueue([ef.Document("a", "some text")], budget_usd=budget)
    assert [] == fleet.jobs()


def test_repairs_and_retries_take_a_budget_too(fleet, docs, command):
    docs.enqueue([ef.Document("a", "some text")]).cancel()
    found = docs.audit(repair=True, budget_usd=0.5)
    assert 0.5 == fleet.job(found.job_id).status.budget_usd
    with pytest.raises(BadBudget):
        docs.audit(repair=True, budget_usd=0)
    with pytest.raises(BadBudget):
        docs.retry(budget_usd=-1)
    with pytest.raises(UsageError, match="above 0 USD, not inf"):
        fleet.job(found.job_id).resume(budget_usd=10**5000)
    assert "--budget needs --repair" in command("audit", "docs", "--budget", 1).err
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.batch SET state = 'dead', texts = '{}'")
        conn.execute(
            "INSERT INTO embedfleet.failure (collection_id, text_id, code, reason, attempts)"
            " SELECT 1, id, 'BAD', 'r', 1 FROM embedfleet._texts_1"
        )
    job_id = command("retry", "docs", "--budget", 0.25, "--json").json["job_id"]
    assert 0.25 == fleet.job(job_id).status.budget_usd


def test_a_budget_for_a_model_of_unknown_price_is_refused(fleet):
    mine = fleet.collection("mine", model="openai/mine", dimensions=8)
    with pytest.raises(PriceUnknown, match=r'EMBEDFLEET_PRICES=\'\{"openai/mine": 0.1\}\''):
        mine.enqueue([ef.Document("a", "some text")], budget_usd=1)
    assert [] == fleet.jobs()


def test_a_price_that_a_person_set_makes_a_budget_possible(migrated_url, redis_url):
    with ef.connect(migrated_url, redis_url, prices={"openai/mine": 0.5}) as fleet:
        mine = fleet.collection("mine", model="openai/mine", dimensions=8)
        assert 1 == mine.enqueue([ef.Document("a", "x")], budget_usd=1).status.budget_usd


def test_the_command_takes_a_budget_and_says_what_it_means(command, docs, folder):
    answer = command("enqueue", "docs", folder, "--budget", 0.5)
    assert 0 == answer.code
    assert "The job costs at most $0.50" in answer.err
    assert 2 == command("enqueue", "docs", folder, "--budget", 0).code


def test_usage_is_told_by_day_and_model(fleet, docs):
    other = fleet.collection("other", model="openai/mine", dimensions=8)
    spend(fleet, docs, tokens=1_000_000, price=0.02, day=today() - timedelta(days=2), texts=10)
    spend(fleet, docs, tokens=500_000, price=0.02, texts=5)
    spend(fleet, other, tokens=70, price=None)
    rows = [(each.day, each.model, each.tokens, each.usd) for each in fleet.usage()]
    assert [
        (today(), "openai/mine", 70, None),
        (today(), SMALL, 500_000, Decimal("0.01")),
        (today() - timedelta(days=2), SMALL, 1_000_000, Decimal("0.02")),
    ] == rows
    assert [today(), today()] == [each.day for each in fleet.usage(days=1)]


def test_the_command_prints_the_ledger(command, fleet, docs):
    spend(fleet, docs, tokens=1_234_567, price=0.02, requests=3, texts=100)
    answer = command("usage")
    assert (0, "") == (answer.code, answer.err)
    columns, row, total = answer.out.splitlines()
    assert ["day", "model", "requests", "texts", "tokens", "USD"] == columns.split()
    assert [today().isoformat(), SMALL, "3", "100", "1,234,567", "$0.025"] == row.split()
    assert "$0.025 in 30 days" == total

    (entry,) = command("usage", "--days", 1, "--json").json
    assert (today(), SMALL, 1_234_567, 0.02469134) == (
        date.fromisoformat(entry["day"]),
        entry["model"],
        entry["tokens"],
        entry["usd"],
    )


def test_a_day_without_a_price_is_not_taken_for_free(command, fleet, docs):
    spend(fleet, docs, tokens=10, price=None)
    assert "unknown" in command("usage").out


def test_an_empty_ledger_says_so(command):
    answer = command("usage", "--days", 7)
    assert (0, "") == (answer.code, answer.out)
    assert "Nothing was spent in the last 7 days" in answer.err
