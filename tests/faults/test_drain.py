"""A loaded worker that Kubernetes tells to leave: SIGTERM, then nothing until its grace is over."""

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from plugins.api_fleets import wrong_rows
from plugins.failpoints import alive, documents, leased, repeated
from plugins.fleets import ask
from plugins.manifests import only, rendered
from plugins.worker_processes import WorkerProcess, eventually

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(900)]

# Nobody could wait for the end of one: what a worker did not give back would be missing.
LEASES = {"lease_seconds": "1200", "heartbeat_seconds": "2"}
# More than are embedded before the signal.
COUNT = 600
SECONDS = {"cpu": 0.2, "api": 0.5}
CHARGED = "SELECT sum(errors + crashes) FROM embedfleet.batch"


def grace_s(overlay: str) -> float:
    pod = only(rendered(f"overlays/{overlay}"), "Deployment")["spec"]["template"]["spec"]
    return float(pod["terminationGracePeriodSeconds"])


def drained(worker: WorkerProcess, overlay: str) -> float:
    """Tell it to leave, as Kubernetes does; returns how long it took. Kubernetes would kill one
    that is still there afterwards.
    """
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    try:
        assert 0 == worker.process.wait(grace_s(overlay))
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end within its grace period: {worker.log.read_text()[-2_000:]}")
    return time.monotonic() - began


def roll(fleet, start: Callable[[], WorkerProcess], job, overlay: str, times: int, report):
    """Replace a loaded worker so often, then let the last one finish the job."""
    took = []
    for n in range(times):
        worker = start()
        eventually(lambda pid=worker.pid: alive(fleet) and leased(fleet) > 0)
        before = job.status.embedded
        eventually(lambda before=before: job.status.finished or job.status.embedded > before)
        if n:
            assert not job.status.finished, "too little work for so many workers"
        took.append(drained(worker, overlay))
        assert 0 == leased(fleet), "it kept what others could have embedded"
        assert set() == alive(fleet)
    start()
    eventually(lambda: alive(fleet))
    status = job.wait(timeout_s=600)
    report(
        workers=times, longest_drain_s=max(took), grace_s=grace_s(overlay), again=repeated(fleet)
    )
    assert (0, 0) == (status.queued, status.failed)
    assert [(0,)] == ask(fleet, CHARGED)
    return status


times = pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.nightly)])


@times
@pytest.mark.parametrize(("pool", "slots"), [("prefork", 2), ("threads", 3)])
def test_a_worker_of_models_drains_and_another_goes_on_at_once(
    fleet, worker_process, report, pool, slots, times
):
    """`threads` is what a GPU has."""
    docs = fleet.collection("docs", model="fake/16")
    count = COUNT * times
    job = docs.enqueue(documents(count))

    def start():
        latency = f"latency={SECONDS['cpu']}"
        return worker_process(pool=pool, slots=slots, fake_faults=latency, **LEASES)

    overlay = "cpu" if pool == "prefork" else "gpu"
    status = roll(fleet, start, job, overlay, times, report)
    assert (count, 0) == (status.embedded, repeated(fleet))
    found = docs.audit()
    assert (count, count, 0, 0) == (found.texts, found.stored, found.missing, found.extra)


@times
def test_a_worker_of_an_api_drains_and_no_text_is_paid_for_twice(
    api_fleet, worker_process, report, times
):
    api = api_fleet({"batch_tokens_api": 1_000}, latency_s=SECONDS["api"])
    count = COUNT * times
    job = api.enqueue(count)
    variables = {**api.variables(), **LEASES}

    def start():
        return worker_process(slots=4, **variables)

    status = roll(api.fleet, start, job, "api", times, report)
    assert count == status.embedded
    # A batch may be put off and claimed again, and what it has is kept: the provider counts.
    counts = api.counts()
    assert (0, 0) == (counts["repeated_texts"], counts["abandoned"])
    docs = api.fleet.collection("docs")
    found = docs.audit()
    assert (count, count, 0, 0) == (found.texts, found.stored, found.missing, found.extra)
    assert 0 == wrong_rows(docs, api.fleet)
