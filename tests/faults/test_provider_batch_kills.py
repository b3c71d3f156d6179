"""Worker processes that are killed while they file or harvest provider batches."""

import signal

import pytest

from plugins.provider_batch_fleets import ProviderBatchFleet, names
from plugins.provider_dialects import KEY
from plugins.worker_processes import eventually

pytestmark = pytest.mark.slow


def settings_of(batch_fleet: ProviderBatchFleet) -> dict[str, str]:
    return {
        "queue": "api",
        "openai_api_key": KEY,
        "openai_base_url": batch_fleet.server.url,
        "provider_batch_seconds": "0.2",
    }


def take_for_dead(batch_fleet: ProviderBatchFleet) -> None:
    """Minutes pass."""
    with batch_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.provider_batch SET checked_at = now() - interval '1 hour'")


@pytest.mark.parametrize(
    "place",
    [
        "after_provider_batch_lease",
        "after_provider_batch_upload",
        "after_provider_batch_create",
        "after_provider_batch_part",
    ],
)
def test_another_worker_goes_on_where_one_was_killed(place, batch_fleet, worker_process):
    job = batch_fleet.enqueue(*names(20))
    dying = worker_process(failpoints=f"{place}=kill", **settings_of(batch_fleet))
    if place == "after_provider_batch_part":
        eventually(lambda: ["filed"] == batch_fleet.provider_batches())
        batch_fleet.server.complete()
    assert -signal.SIGKILL == dying.process.wait(60)
    take_for_dead(batch_fleet)
    worker_process(**settings_of(batch_fleet))
    if place != "after_provider_batch_part":
        eventually(lambda: "filed" == batch_fleet.provider_batches()[-1])
        batch_fleet.server.complete()
    eventually(lambda: "done" == job.status.state and not batch_fleet.server.files)
    assert (names(20), names(20)) == (batch_fleet.filed(), batch_fleet.stored())
    (spent,) = batch_fleet.fleet.usage()
    assert (20, []) == (spent.texts, batch_fleet.server.embedded)
