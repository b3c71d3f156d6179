"""What leaves an embedder and is no ordinary error neither kills a worker nor wedges its slot."""

import itertools

import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadSettings
from embedfleet_workers.embedders.faults import Faults
from plugins.fleets import ask
from plugins.worker_processes import eventually

RAISED = ["MemoryError", "SystemExit", "KeyboardInterrupt"]
POOLS = [("threads", 2), ("prefork", 2), ("solo", 1)]
DOCUMENTS = 120
NEXT_BATCH_S = 5.0
# The short form may run on a busy machine. A batch that nobody gave back comes after its lease.
BUSY_S = 40.0
LEASE_S = 120
# A bound for what hangs, not for a machine that has much else to do.
PATIENCE_S = 240

LONGEST_PAUSE = """
SELECT extract(epoch FROM max(pause))
FROM (
    SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS pause
    FROM embedfleet.batch WHERE state = 'done' AND job_id = %s
) AS pauses
"""


# Each pool and each error once; the long form takes all pairs.
QUICK = list(zip(POOLS, RAISED, strict=True))
OTHERS = [pair for pair in itertools.product(POOLS, RAISED) if pair not in QUICK]


@pytest.mark.parametrize(
    ("pool", "raised", "most_s"),
    [
        *((*each, BUSY_S) for each in QUICK),
        *(pytest.param(*each, NEXT_BATCH_S, marks=pytest.mark.nightly) for each in OTHERS),
    ],
)
def test_a_worker_goes_on_after_what_its_embedder_raised(
    fleet, worker_process, report, pool, raised, most_s
):
    docs = fleet.collection("docs", model="fake/16")
    kind, slots = pool
    worker = worker_process(
        pool=kind,
        slots=slots,
        fake_faults=f"error={raised};error_every=3;latency=0.06",
        lease_seconds=str(LEASE_S),
    )
    eventually(lambda: len(fleet.workers()) == (slots if kind == "prefork" else 1))
    before = {each.id for each in fleet.workers()}
    job = docs.enqueue(ef.Document(f"d{n}", f"text number {n}") for n in range(DOCUMENTS))
    status = job.wait(timeout_s=PATIENCE_S)
    assert (DOCUMENTS, 0) == (status.embedded, status.failed)
    assert f"{raised} -> " in worker.log.read_text()
    assert worker.process.poll() is None
    assert before == {each.id for each in fleet.workers()}, "a process of the pool was replaced"
    ((pause,),) = ask(fleet, LONGEST_PAUSE, job.id)
    assert pause < most_s
    report(**{f"{kind}_{raised}_longest_pause_s": float(pause)})


@pytest.mark.parametrize("raised", RAISED)
def test_the_batch_itself_is_put_back_without_a_failure(fleet, worker, raised):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue([ef.Document("one", "the only text")])
    runtime = worker(fake_faults=f"error={raised};error_every=1")
    charged = 1 if raised == "MemoryError" else 0
    assert ("retry" if charged else "defer") == runtime.run_one("cpu")
    assert [("pending", charged, 0)] == ask(
        fleet, "SELECT state, errors, crashes FROM embedfleet.batch"
    )
    assert [] == docs.failures()
    assert job.status.reason == raised


def test_a_fault_that_is_no_error_is_refused():
    with pytest.raises(BadSettings, match="'Nonsense' is not one of EmbeddingError, MemoryError"):
        Faults.parse("error=Nonsense")
