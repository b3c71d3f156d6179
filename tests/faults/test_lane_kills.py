"""Worker processes that are killed while they file or harvest for the batch lane."""

import signal

import pytest

from plugins.lane_fleets import LaneFleet, names
from plugins.provider_dialects import KEY
from plugins.worker_processes import eventually

pytestmark = pytest.mark.slow


def settings_of(lane_fleet: LaneFleet) -> dict[str, str]:
    return {
        "queue": "api",
        "openai_api_key": KEY,
        "openai_base_url": lane_fleet.server.url,
        "lane_seconds": "0.2",
    }


def take_for_dead(lane_fleet: LaneFleet) -> None:
    """Minutes pass."""
    with lane_fleet.fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.lane_file SET checked_at = now() - interval '1 hour'")


@pytest.mark.parametrize(
    "place", ["after_lane_lease", "after_lane_upload", "after_lane_create", "after_lane_part"]
)
def test_another_worker_goes_on_where_one_was_killed(place, lane_fleet, worker_process):
    job = lane_fleet.enqueue(*names(20))
    dying = worker_process(failpoints=f"{place}=kill", **settings_of(lane_fleet))
    if place == "after_lane_part":
        eventually(lambda: ["filed"] == lane_fleet.files())
        lane_fleet.server.complete()
    assert -signal.SIGKILL == dying.process.wait(60)
    take_for_dead(lane_fleet)
    worker_process(**settings_of(lane_fleet))
    if place != "after_lane_part":
        eventually(lambda: "filed" == lane_fleet.files()[-1])
        lane_fleet.server.complete()
    eventually(lambda: "done" == job.status.state and not lane_fleet.server.files)
    assert (names(20), names(20)) == (lane_fleet.filed(), lane_fleet.stored())
    (spent,) = lane_fleet.fleet.usage()
    assert (20, []) == (spent.texts, lane_fleet.server.embedded)
