"""Tenants share the workers by tokens, whoever came first and however much waits."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import jobs, shares, transitions
from embedfleet_schema.store.retention import remove_shares
from embedfleet_schema.store.transitions import NewBatch
from embedfleet_schema.turns import Turn
from plugins.fleets import ask, batches_of, documents
from plugins.query_plans import buffers_read, most_read

VALUES = {
    "queue": "cpu",
    "owner": None,
    "lease_seconds": 60,
    "skipped": [],
    "first": -1,
    "last": 0,
}


def put(fleet, docs, tenant, tokens, lane="bulk"):
    """A job of a tenant with batches of so many tokens each."""
    with fleet.db.transaction() as conn:
        job_id = jobs.create(conn, docs.info, "enqueue", turn=Turn(lane, tenant))
        numbers = transitions.numbers(conn, len(tokens))
        made = [NewBatch(n, [n], each) for n, each in zip(numbers, tokens, strict=True)]
        transitions.enqueue(conn, docs.info, transitions.standing(conn, job_id), made)
    return job_id


def claim(fleet, count=1_000):
    """The tenant and the tokens of the next batches, which are done then."""
    found = []
    with fleet.db.transaction() as conn:
        transitions.by_index(conn)
        for _ in range(count):
            row = transitions.claim(conn, "best", VALUES)
            if row is None:
                break
            conn.execute(
                "UPDATE embedfleet.batch SET state = 'done', lease_until = NULL WHERE id = %s",
                [row[0]],
            )
            (tenant,) = conn.execute(
                "SELECT tenant FROM embedfleet.job WHERE id = %s", [row[3]]
            ).fetchone()
            found.append((tenant, row[6]))
    return found


def tokens_of(claims):
    sums = Counter()
    for tenant, tokens in claims:
        sums[tenant] += tokens
    return dict(sums)


def test_two_tenants_get_the_same_tokens_while_both_wait_although_one_came_first(fleet, docs):
    put(fleet, docs, "a", [100] * 40)
    put(fleet, docs, "b", [25] * 160)
    half = tokens_of(claim(fleet, 100))
    assert abs(half["a"] - half["b"]) <= 100


def test_a_weight_of_three_gets_three_times_the_tokens(fleet, docs):
    fleet.tenants.set("a", 3)
    put(fleet, docs, "a", [10] * 90)
    put(fleet, docs, "b", [10] * 90)
    found = tokens_of(claim(fleet, 80))
    assert abs(found["a"] - 3 * found["b"]) <= 40


def test_who_comes_to_a_backlog_does_not_wait_for_it(fleet, docs):
    put(fleet, docs, "a", [10] * 100)
    claim(fleet, 50)
    put(fleet, docs, "b", [10] * 10)
    assert {"a": 100, "b": 100} == tokens_of(claim(fleet, 20))


def test_who_was_away_has_saved_nothing(fleet, docs):
    put(fleet, docs, "b", [10])
    put(fleet, docs, "a", [10] * 200)
    claim(fleet, 101)
    put(fleet, docs, "b", [10] * 50)
    found = tokens_of(claim(fleet, 40))
    assert abs(found["a"] - found["b"]) <= 20


def test_who_worked_alone_is_not_punished_for_it(fleet, docs):
    put(fleet, docs, "a", [10] * 100)
    claim(fleet)
    put(fleet, docs, "b", [10] * 20)
    put(fleet, docs, "a", [10] * 20)
    found = tokens_of(claim(fleet, 20))
    assert abs(found["a"] - found["b"]) <= 20


def test_a_backlog_that_is_resumed_does_not_push_others_aside(fleet, docs):
    job = fleet.job(put(fleet, docs, "a", [10] * 100))
    job.pause()
    put(fleet, docs, "b", [10] * 100)
    claim(fleet, 50)
    job.resume()
    found = tokens_of(claim(fleet, 40))
    assert abs(found["a"] - found["b"]) <= 20


def test_tenants_share_each_space_by_itself(fleet, docs):
    other = fleet.collection("other", model="fake/8")
    put(fleet, docs, "a", [10] * 100)
    claim(fleet, 50)
    put(fleet, other, "b", [10] * 20)
    found = tokens_of(claim(fleet, 20))
    assert abs(found["a"] - found["b"]) <= 20


def test_a_batch_that_is_tried_again_goes_behind_those_of_its_tenant(fleet, docs):
    put(fleet, docs, "a", [10] * 5)
    store = batches_of(fleet)
    lease = store.claim("cpu")
    store.retry(lease, delay_s=0.0, reason="once more")
    ids = []
    while again := store.claim("cpu"):
        ids.append(again.id)
    assert lease.id == ids[-1]


def test_the_interactive_lane_is_shared_by_itself(fleet, docs):
    put(fleet, docs, "a", [10] * 100)
    put(fleet, docs, "a", [10] * 10, "interactive")
    put(fleet, docs, "b", [10] * 10, "interactive")
    assert {"a": 100, "b": 100} == tokens_of(claim(fleet, 20))


def test_a_weight_can_be_set_shown_and_cleared(fleet, docs):
    fleet.tenants.set("acme", 2.5)
    put(fleet, docs, "acme", [10, 20])
    put(fleet, docs, "other", [5])
    found = [(each.name, each.weight, each.jobs, each.tokens) for each in fleet.tenants.show()]
    assert [("acme", 2.5, 1, 30), ("other", 1.0, 1, 5)] == found
    assert [True, False] == [fleet.tenants.clear("acme"), fleet.tenants.clear("acme")]
    assert {1.0} == {each.weight for each in fleet.tenants.show()}


@pytest.mark.parametrize("weight", [0, 0.0001, 1_001, float("inf")])
def test_a_weight_out_of_range_is_refused(fleet, weight):
    with pytest.raises(UsageError, match=r"a weight is a number from 0\.001 to 1,000"):
        fleet.tenants.set("acme", weight)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_a_name_that_cannot_be_shown_is_refused(fleet, docs, name):
    with pytest.raises(UsageError, match="1 to 200 printable characters"):
        docs.enqueue(documents(1), tenant=name)
    assert [] == fleet.jobs()


def test_the_commands_take_a_lane_a_tenant_and_a_weight(command, tmp_path):
    (tmp_path / "a.txt").write_text("some words")
    enqueue = ("enqueue", "docs", tmp_path, "--model", "fake/8")
    assert 0 == command(*enqueue, "--lane", "bulk", "--tenant", "acme").code
    assert "acme: weight 2" in command("tenants", "set", "acme", "--weight", "2").out
    shown = command("tenants", "show").out
    assert "acme" in shown
    shown = command("status", "1").out
    assert "job 1: enqueue docs for acme, " in shown
    assert ", bulk\n" in shown
    assert 2 == command("tenants", "set", "acme", "--weight", "0").code
    assert 2 == command(*enqueue, "--lane", "slow").code
    assert "weight 1 again" in command("tenants", "clear", "acme").out


def test_shares_that_nobody_uses_are_removed_but_the_furthest(fleet, docs):
    for tenant in "abc":
        put(fleet, docs, tenant, [10])
    ask(fleet, "UPDATE embedfleet.tenant_share SET used_at = now() - interval '40 days'")
    assert 0 == remove_shares(fleet.db, days=30)
    claim(fleet)
    ask(fleet, "UPDATE embedfleet.tenant_share SET finish_tag = 99 WHERE tenant = 'b'")
    assert 0 == remove_shares(fleet.db, days=60)
    assert 2 == remove_shares(fleet.db, days=30)
    assert [("b",)] == ask(fleet, "SELECT tenant FROM embedfleet.tenant_share")


@dataclass
class Line:
    """What a tenant has waiting, and what it got since it last had nothing."""

    waiting: list[int] = field(default_factory=list)
    got: float = 0.0


ARRIVALS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 50), min_size=1, max_size=6)),
        st.integers(1, 6),
    ),
    max_size=25,
)


@given(ARRIVALS, st.sampled_from([1.0, 2.0, 0.5]))
def test_nothing_starves_and_shares_are_fair_whoever_comes_when(shared_fleet, arrivals, weight):
    """The bound of start-time fair queuing: while two wait, what they got by their weights differs
    by no more than their largest batches.
    """
    fleet, docs = shared_fleet
    ask(fleet, "TRUNCATE embedfleet.tenant_share; DELETE FROM embedfleet.job")
    fleet.tenants.set("a", weight)
    weights = {"a": weight, "b": 1.0, "c": 1.0}
    waiting = {tenant: Counter() for tenant in weights}
    since: dict[tuple[str, str], dict[str, float]] = {}
    bound = sum(50 / each for each in sorted(weights.values())[:2])

    def note() -> None:
        both = {
            (one, two)
            for one in weights
            for two in weights
            if one < two and waiting[one].total() and waiting[two].total()
        }
        for pair in since.keys() - both:
            del since[pair]
        for pair in both - since.keys():
            since[pair] = dict.fromkeys(pair, 0.0)

    for step in [*arrivals, 1_000]:
        if isinstance(step, tuple):
            tenant, tokens = step
            put(fleet, docs, tenant, tokens)
            waiting[tenant].update(tokens)
            note()
            continue
        for _ in range(step):
            found = claim(fleet, 1)
            if not found:
                break
            ((tenant, tokens),) = found
            waiting[tenant][tokens] -= 1
            for pair, got in since.items():
                if tenant in pair:
                    got[tenant] += tokens / weights[tenant]
                    one, two = pair
                    assert abs(got[one] - got[two]) <= bound
            note()
    assert [0, 0, 0] == [each.total() for each in waiting.values()]
    assert [] == ask(fleet, "SELECT FROM embedfleet.batch WHERE state = 'pending'")


@pytest.fixture(scope="module")
def shared_fleet(stack, template_database):
    """One database for all examples."""
    from plugins.fleets import small_fleet
    from plugins.servers import fresh_database

    with (
        fresh_database(stack, template_database) as url,
        small_fleet(url, stack.redis_url) as fleet,
    ):
        yield fleet, fleet.collection("docs", model="fake/16")


@pytest.mark.parametrize("counted", [False, True])
def test_a_start_is_found_without_reading_what_waits(fleet, docs, counted):
    put(fleet, docs, "a", [10])
    ask(
        fleet,
        "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, start_tag,"
        " chunks, tokens, texts) SELECT 1, 1, 1, 'cpu', 'pending', n, 1, 5, ARRAY[n]"
        " FROM generate_series(1, 20000) AS n",
    )
    if counted:
        ask(fleet, "ANALYZE")
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {shares.RESERVE.as_string()}"
    for space_id in (docs.info.space_id, docs.info.space_id + 1):
        values = shares.Line(space_id, "cpu", 0, "b")._asdict() | {"tokens": 10}
        with fleet.db.transaction() as conn, conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL session_replication_role = replica")
            explained = conn.execute(explain, values).fetchall()
        assert most_read(explained) < 10
        assert buffers_read(explained) < 100


def test_reserving_nothing_changes_nothing(fleet, docs):
    with fleet.db.transaction() as conn:
        assert [] == shares.reserve(conn, shares.Line(docs.info.space_id, "cpu", 0, "a"), [])
    assert [] == ask(fleet, "SELECT FROM embedfleet.tenant_share")
