"""What a fleet makes of a provider's limits: short forms of the cases of `make bench-limits`.

The provider enforces its limits second by second here, so that a burst shows within seconds.
"""

from pathlib import Path

import pytest

from plugins.api_fleets import wrong_rows
from plugins.worker_processes import eventually

# 40 requests of 1,000 tokens in a second.
TOKENS = 2_400_000.0
REQUESTS = 2_400.0
ROOMY = {"batch_tokens_api": 1_000}
# Three texts of 20 words fill a batch, which is one request.
TINY = {"batch_tokens_api": 64}
SKEWED = Path(__file__).with_name("skewed_clock")


def assert_all_is_there_once(api, count):
    docs = api.fleet.collection("docs")
    found = docs.audit()
    assert (count, count, 0, 0) == (found.texts, found.stored, found.missing, found.extra)
    assert ([], 0) == (docs.failures(), wrong_rows(docs, api.fleet))
    assert 0 == api.counts()["repeated_texts"]


@pytest.mark.parametrize(
    ("quota", "told"),
    [
        pytest.param("bucket:1", 1.0, id="R1: bucket"),
        # A request that comes a little early or late meets no fault in a limit that is not used up.
        pytest.param("log:1", 0.8, id="R3: sliding log"),
        pytest.param("slices:1", 0.8, id="R4: sliced into seconds"),
    ],
)
def test_two_workers_keep_to_one_limit_of_tokens(api_fleet, quota, told):
    api = api_fleet(ROOMY, quota=quota, limits={"tokens": TOKENS}, tell_limits=False)
    api.tell_limits(tokens=told * TOKENS)
    job = api.enqueue(600)
    with api.working():
        assert 600 == job.wait(timeout_s=60).embedded
    counts = api.counts()
    assert counts["limited"] <= 1
    assert 60_000 == counts["tokens"]
    assert_all_is_there_once(api, 600)


def test_two_workers_keep_to_one_limit_of_requests(api_fleet):
    api = api_fleet(TINY, quota="bucket:1", limits={"requests": REQUESTS, "tokens": 1e9})
    api.tell_limits(requests=REQUESTS)
    job = api.enqueue(180, words=20)
    with api.working():
        assert 180 == job.wait(timeout_s=60).embedded
    counts = api.counts()
    assert (0, 60) == (counts["limited"], counts["admitted"])
    assert_all_is_there_once(api, 180)


def test_small_and_large_requests_share_one_limit(api_fleet):
    """R5. Each text is a batch of its own, because no two fit into one."""
    api = api_fleet({"batch_tokens_api": 128}, quota="bucket:1", limits={"tokens": 10 * TOKENS})
    api.tell_limits(tokens=10 * TOKENS)
    large = api.enqueue(5, words=5_000, name="large")
    small = api.enqueue(95, words=100)
    with api.working():
        assert (95, 5) == tuple(job.wait(timeout_s=60).embedded for job in (small, large))
    counts = api.counts()
    assert (100, 0, 5_000) == (counts["admitted"], counts["limited"], counts["largest"])
    assert_all_is_there_once(api, 95)


def test_a_limit_that_is_halved_is_kept_from_the_next_answer_on(api_fleet):
    """R6. Only the headers say so."""
    api = api_fleet(ROOMY, quota="bucket:1", limits={"tokens": TOKENS})
    api.tell_limits(tokens=TOKENS)
    job = api.enqueue(600)
    with api.working():
        eventually(lambda: job.status.embedded > 200)
        api.provider.set(limits={"tokens": TOKENS / 2})
        assert 600 == job.wait(timeout_s=60).embedded
    assert api.counts()["limited"] <= 2
    assert_all_is_there_once(api, 600)


def test_what_another_program_takes_is_left_to_it(api_fleet):
    """R7. It has taken nearly everything before we come, and goes on with a third."""
    api = api_fleet(ROOMY, limits={"tokens": TOKENS}, filled=0.1, foreign=0.3)
    api.tell_limits(tokens=TOKENS)
    job = api.enqueue(300)
    with api.working():
        assert 300 == job.wait(timeout_s=60).embedded
    counts = api.counts()
    assert counts["limited"] <= 2
    assert counts["foreign_tokens"] > 0
    assert_all_is_there_once(api, 300)


def test_wrong_clocks_of_workers_change_nothing(api_fleet, worker_process):
    """R12."""
    api = api_fleet(ROOMY, quota="bucket:1", limits={"tokens": TOKENS}, tell_limits=False)
    api.tell_limits(tokens=TOKENS)
    for skew_s in ("-5", "30"):
        variables = {"PYTHONPATH": str(SKEWED), "SKEW_S": skew_s}
        worker_process(**api.variables(), slots=4, variables=variables)
    eventually(lambda: len(api.fleet.workers()) == 2)
    assert 600 == api.enqueue(600).wait(timeout_s=60).embedded
    assert api.counts()["limited"] <= 1
    assert_all_is_there_once(api, 600)
