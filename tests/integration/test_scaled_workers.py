"""What KEDA asks the database: how long one process would work for what waits in a queue."""

from collections.abc import Iterator
from math import ceil

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from embedfleet import Job
from embedfleet.fleet import Fleet
from embedfleet_schema.roles import ROLES, set_up_roles
from embedfleet_workers.embedders.fake import fake_vectors
from plugins.fleets import ask, batches_of, documents, small_fleet
from plugins.manifests import only, rendered
from plugins.servers import fresh_database

pytestmark = pytest.mark.kubectl

UNMEASURED = 1_000
TOKENS = "SELECT sum(tokens)::int FROM embedfleet.batch WHERE state IN ('pending', 'leased')"
SPAN = """
UPDATE embedfleet.batch
SET leased_at = %s::timestamptz, finished_at = %s::timestamptz + interval '10 s'
WHERE id = %s
"""
WARM = """
SELECT sum(tokens)::int
FROM embedfleet.batch
WHERE state = 'done' AND finished_at > '2026-01-02'
"""


def query(overlay: str) -> str:
    (trigger,) = only(rendered(f"scaled/{overlay}"), "ScaledObject")["spec"]["triggers"]
    return trigger["metadata"]["query"]


@pytest.fixture(scope="module")
def owned(stack, template_database) -> Iterator[str]:
    """A database where a worker and a search have logins of their own."""
    with (
        fresh_database(stack, template_database) as url,
        psycopg.connect(stack.database_url, autocommit=True) as conn,
    ):
        set_up_roles(url)
        for part in ("worker", "search"):
            conn.execute(f"CREATE ROLE scaled_{part} LOGIN PASSWORD 'pw' IN ROLE embedfleet_{part}")
        yield url
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        for role in ("scaled_worker", "scaled_search", *ROLES):
            conn.execute(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def fleet(owned, stack) -> Iterator[Fleet]:
    """The owner's, without a batch."""
    with small_fleet(owned, stack.redis_url) as fleet:
        yield fleet
        for collection in fleet.collections():
            fleet.collection(collection.name).drop()


def seconds(fleet: Fleet, overlay: str = "cpu", role: str = "worker") -> float:
    """What the role is told, as KEDA reads it: one number."""
    url = make_conninfo(fleet.settings.database, user=f"scaled_{role}", password="pw")
    with psycopg.connect(url) as conn:
        ((value,),) = conn.execute(query(overlay)).fetchall()
    assert isinstance(value, float)
    return value


def unmeasured(fleet: Fleet) -> int:
    ((tokens,),) = ask(fleet, TOKENS)
    return ceil(tokens / UNMEASURED)


def fill(fleet: Fleet, count: int = 400) -> Job:
    return fleet.collection("docs", model="fake/16").enqueue(documents(count))


def test_an_empty_queue_needs_nobody(fleet):
    assert [0.0, 0.0, 0.0] == [seconds(fleet, overlay) for overlay in ("cpu", "api", "gpu")]


def test_what_waits_is_counted_in_its_queue_and_in_no_other(fleet):
    fill(fleet)
    assert unmeasured(fleet) == seconds(fleet) > 1
    assert 0.0 == seconds(fleet, "gpu") == seconds(fleet, "api")


def test_what_a_worker_holds_still_counts_because_it_may_be_dead(fleet):
    fill(fleet, 2)
    assert batches_of(fleet).claim("cpu", price_of=lambda _: 1.0) is not None
    assert 1.0 == seconds(fleet)


def test_what_is_put_off_or_paused_waits_for_no_worker(fleet):
    job = fill(fleet)
    ask(fleet, "UPDATE embedfleet.batch SET run_after = now() + interval '1 hour'")
    assert 0.0 == seconds(fleet)
    ask(fleet, "UPDATE embedfleet.batch SET run_after = now() - interval '1 hour'")
    assert seconds(fleet) > 0
    job.pause()
    assert 0.0 == seconds(fleet)


def embed(fleet: Fleet, batches: int) -> None:
    """One more process loads its model with the first, and has the others at once for 10 s."""
    store = batches_of(fleet)
    for n in range(batches):
        lease = store.claim("cpu", price_of=lambda _: 1.0)
        store.commit(lease, fake_vectors(lease.collection.space, lease.texts, "document"))
        since = "2026-01-01 12:00" if n == 0 else "2026-01-02 12:00"
        ask(fleet, SPAN, since, since, lease.id)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_measured_speed_of_one_process_decides(fleet, processes):
    fill(fleet)
    for _ in range(processes):
        embed(fleet, 3)
    ((warm,),) = ask(fleet, WARM)
    ((waiting,),) = ask(fleet, TOKENS)
    assert ceil(waiting / (warm / (10 * processes))) == seconds(fleet)


def test_a_first_batch_tells_no_speed(fleet):
    fill(fleet)
    embed(fleet, 1)
    assert unmeasured(fleet) == seconds(fleet)


def test_a_role_that_only_searches_can_not_ask(fleet):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        seconds(fleet, role="search")
