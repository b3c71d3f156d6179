"""Whatever lies in a queue is one ring of it or nothing."""

import base64
import json

import celery
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from embedfleet_schema.rings import MOST_BYTES, TASK, ring_of
from embedfleet_schema.types import QUEUES

NAMES = ("body", "properties", "content-type", "content-encoding", "redelivered", "task", "id")
HEADERS = (
    *("timelimit", "eta", "expires", "retries", "group", "chord", "compression", "reply_to"),
    *("callbacks", "errbacks", "ignore_result", "lang", "argsrepr", "stamps", "shadow", "origin"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TASKS = st.sampled_from([TASK, "celery.map", "celery.chord_unlock", "celery.backend_cleanup"])
MESSAGES = st.fixed_dictionaries(
    {
        "headers": st.dictionaries(st.sampled_from(HEADERS), JSON).flatmap(
            lambda headers: TASKS.map(lambda task: {**headers, "task": task})
        )
    },
    optional=dict.fromkeys(NAMES, JSON),
).map(lambda message: json.dumps(message).encode())


def without_names(ring: bytes) -> dict:
    message = json.loads(ring)
    for part, name in (
        *(("headers", each) for each in ("id", "root_id")),
        *(("properties", each) for each in ("correlation_id", "delivery_tag")),
    ):
        assert isinstance(message[part].pop(name), str)
    return message


@pytest.fixture(scope="module")
def canonical() -> dict:
    ring = ring_of(json.dumps({"headers": {"task": TASK}}).encode(), "cpu")
    assert ring is not None
    return without_names(ring)


@given(
    entry=MESSAGES | st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
)
def test_an_entry_is_the_one_ring_of_its_queue_or_nothing(canonical, entry):
    ring = ring_of(entry, "cpu")
    assert ring is None or canonical == without_names(ring)


@given(options=st.dictionaries(st.sampled_from(HEADERS), JSON))
def test_what_is_written_on_a_ring_makes_no_difference(canonical, options):
    entry = json.dumps({"headers": {**options, "task": TASK}, "properties": options}).encode()
    assume(len(entry) <= MOST_BYTES)
    assert canonical == without_names(ring_of(entry, "cpu"))


def test_what_a_producer_sends_is_a_ring(canonical):
    app = celery.Celery(set_as_current=False)
    sent = app.amqp.as_task_v2("id", TASK, ("cpu",), time_limit=1, countdown=60, link="x")
    body = base64.b64encode(json.dumps(sent.body, default=str).encode()).decode()
    headers = json.loads(json.dumps(sent.headers, default=str))
    entry = json.dumps({"body": body, "headers": headers}).encode()
    assert canonical == without_names(ring_of(entry, "cpu"))


def test_the_argument_is_the_queue_where_the_ring_lay():
    for queue in QUEUES:
        ring = json.loads(ring_of(json.dumps({"headers": {"task": TASK}}).encode(), queue))
        assert [[queue], {}, {}] == json.loads(base64.b64decode(ring["body"]))


@pytest.mark.parametrize("queue", ["celery", "limit:openai", "", "cpu\x06\x163"])
def test_a_list_that_is_no_queue_of_ours_holds_no_ring(queue):
    assert ring_of(json.dumps({"headers": {"task": TASK}}).encode(), queue) is None


@pytest.mark.parametrize(
    "entry",
    [
        json.dumps({"headers": {"task": TASK}, "body": "x" * MOST_BYTES}).encode(),
        b"[" * (MOST_BYTES - 1),
        b'{"headers": {"task": "embedfleet.embed\xff"}}',
        b"{" * 100,
    ],
    ids=["large", "deep", "other bytes", "broken"],
)
def test_what_is_large_or_deep_is_none(entry):
    assert ring_of(entry, "cpu") is None
