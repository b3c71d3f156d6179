"""The public calls with arguments that nobody should give: what comes back are our own errors."""

import asyncio
import enum
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet import arguments
from embedfleet_schema.database_errors import ConnectionsInUse
from embedfleet_schema.errors import (
    BadArgument,
    BadSettings,
    EmbedfleetError,
    NotDocuments,
    WrongType,
)
from plugins.fleets import drain


class Deep(list):
    """Nested too deeply for whoever goes down into it; Hypothesis has to show it all the same."""

    def __repr__(self):
        return "Deep()"


NESTED = Deep()
for _ in range(5_000):
    NESTED = Deep([NESTED])
ITSELF: dict = {}
ITSELF["itself"] = ITSELF


class Hostile:
    """A value whose own code raises."""

    def __repr__(self):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("neither")

    __str__ = __len__ = __repr__


class Color(enum.Enum):
    RED = 1


def fleet_of_nothing():
    """A function in the place of a value."""


# How Python shows an object of which it knows nothing to say, and one of ours.
PYTHONS_OWN = re.compile(r"<[\w.]+[ >]|(?<!ef\.)(Document|Rejection|Chunking)\(")
numbers = st.one_of(
    st.integers(),
    st.sampled_from([-1, 0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**400, True, np.int64(3)]),
    st.floats(),
    st.sampled_from([Decimal("NaN"), Decimal("1e400"), 1j, np.float32("nan"), np.array([1, 2])]),
)
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "5", "a\0b", "\ud800", "x" * 100_000, "'; --", "%s", "{}", "docs", "cpu"]),
)
others = st.one_of(
    st.binary(max_size=5),
    st.sampled_from([None, object(), Hostile, {1, 2}, (), [], {}, {1: 2}, ITSELF, {"a": NESTED}]),
    st.sampled_from([NESTED, [None], ["a"], [1.0], [[1.0]], [b"x"], lambda: None, ef, range(3)]),
    st.lists(words, max_size=3),
    st.dictionaries(words, numbers, max_size=3),
)
anything = st.one_of(numbers, words, others)
# A name alone would be looked for on the hub.
models = st.one_of(numbers, others, words.map(lambda word: f"fake/{word}"), st.just("fake/16"))
documents = st.one_of(
    anything,
    st.lists(
        st.one_of(
            st.builds(
                ef.Document,
                key=anything,
                text=anything,
                metadata=anything,
                chunks=anything,
                mode=anything,
            ),
            st.builds(ef.Rejection, key=words, code=words, reason=words),
        ),
        max_size=3,
    ),
    st.lists(st.one_of(anything, st.just(ef.Document("a", "text"))), max_size=3),
)


def named(call, **strategies):
    """The call with some of its arguments."""
    return st.fixed_dictionaries({}, optional=strategies).map(lambda given: (call, given))


def given_all(call, first, **strategies):
    return st.tuples(first, st.fixed_dictionaries({}, optional=strategies)).map(
        lambda given: (lambda *objects, **rest: call(*objects, given[0], **rest), given[1])
    )


chunkings = st.one_of(
    anything,
    st.builds(
        ef.Chunking,
        size=anything,
        overlap=anything,
        mode=anything,
        tokenizer=anything,
        too_long=anything,
    ),
    st.builds(ef.Chunking, too_long=anything),
)
CALLS = [
    given_all(
        lambda fleet, docs, job, name, **rest: fleet.collection(name, **rest),
        anything,
        model=models,
        chunking=chunkings,
        queue=anything,
        dimensions=numbers,
        max_tokens=numbers,
        storage=anything,
        metric=anything,
        document_prompt=words,
        query_prompt=anything,
    ),
    given_all(
        lambda fleet, docs, job, stream, **rest: fleet.plan("docs", stream, **rest),
        documents,
        model=models,
        compare=st.one_of(numbers, st.lists(models, max_size=2)),
        chunking=chunkings,
        dimensions=anything,
        max_tokens=anything,
        chunk=others,
        on_window=others,
    ),
    named(lambda fleet, docs, job, days=1: fleet.usage(days=days), days=anything),
    named(lambda fleet, docs, job, number=1: fleet.job(number), number=anything),
    named(lambda fleet, docs, job, limit=1: fleet.jobs(limit=limit), limit=anything),
    named(lambda fleet, docs, job, model=5: fleet.resume(model), model=models),
    given_all(
        lambda fleet, docs, job, model, amounts=None, **rest: fleet.limits.set(
            model, amounts, **rest
        ),
        st.one_of(anything, st.just("openai/text-embedding-3-small")),
        amounts=st.one_of(anything, st.dictionaries(st.sampled_from(["tokens", "x"]), anything)),
        account=anything,
        group=anything,
    ),
    given_all(
        lambda fleet, docs, job, model, **rest: fleet.limits.clear(model, **rest),
        anything,
        account=anything,
    ),
    given_all(lambda fleet, docs, job, model: fleet.limits.show(model), anything),
    given_all(
        lambda fleet, docs, job, stream, **rest: docs.enqueue(stream, **rest),
        documents,
        chunk=others,
        budget_usd=anything,
        provider_batches=anything,
        processes=others,
        on_window=others,
    ),
    given_all(
        lambda fleet, docs, job, stream, **rest: asyncio.run(docs.aenqueue(stream, **rest)),
        documents,
        chunk=others,
        budget_usd=anything,
        provider_batches=anything,
        processes=others,
    ),
    given_all(lambda fleet, docs, job, stream: docs.plan(stream), documents),
    given_all(
        lambda fleet, docs, job, query, **rest: docs.search(query, **rest),
        anything,
        k=anything,
        where=anything,
    ),
    given_all(
        lambda fleet, docs, job, query, **rest: asyncio.run(docs.asearch(query, **rest)),
        words,
        k=anything,
        where=anything,
    ),
    named(lambda fleet, docs, job, **rest: docs.search_sql(**rest), k=anything, where=anything),
    given_all(
        lambda fleet, docs, job, query, **rest: docs.search_script(query, **rest),
        anything,
        k=anything,
        where=anything,
    ),
    named(
        lambda fleet, docs, job, **rest: docs.delete_matching(**rest),
        job_id=anything,
        prefix=anything,
    ),
    given_all(lambda fleet, docs, job, role: docs.grant(role), anything),
    given_all(lambda fleet, docs, job, role: docs.revoke(role), anything),
    given_all(lambda fleet, docs, job, query: docs.embed_query(query), anything),
    given_all(lambda fleet, docs, job, keys: docs.delete(keys), anything),
    named(lambda fleet, docs, job, **rest: docs.audit(repair=True, **rest), budget_usd=anything),
    named(lambda fleet, docs, job, **rest: docs.failures(**rest), job_id=anything, limit=anything),
    given_all(lambda fleet, docs, job, key: docs.explain(key), anything),
    named(lambda fleet, docs, job, **rest: docs.retry(**rest), job_id=anything, budget_usd=numbers),
    named(lambda fleet, docs, job, **rest: docs.index(**rest), memory_mb=numbers, workers=anything),
    named(
        lambda fleet, docs, job, timeout_s=0, **rest: job.wait(timeout_s=timeout_s, **rest),
        timeout_s=anything,
        no_worker_s=anything,
    ),
    named(lambda fleet, docs, job, **rest: job.resume(**rest), budget_usd=anything),
    given_all(
        lambda fleet, docs, job, url, **rest: ef.connect(url, **rest).close(),
        anything.filter(lambda value: value is not None),
        redis_url=anything,
        data=anything,
        workers=anything,
        max_connections=anything,
        prices=anything,
        window_documents=anything,
    ),
]


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(made=st.one_of(CALLS))
def check_one(objects, made):
    call, arguments = made
    try:
        call(*objects, **arguments)
    except EmbedfleetError as error:
        assert not PYTHONS_OWN.search(str(error))  # noqa: PT017 - most calls raise nothing


def test_hostile_arguments_meet_our_own_errors(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue([ef.Document("a", "text")])
    # So that there is nothing to wait for.
    drain(worker())
    assert "done" == job.wait().state
    check_one((fleet, docs, job))


@pytest.mark.parametrize("k", [-1, 0, 2**31, 2**63])
def test_a_number_of_hits_that_cannot_be_is_refused(fleet, k):
    docs = fleet.collection("docs", model="fake/16")
    with pytest.raises(BadArgument, match="search: k is a whole number from 1 to"):
        docs.search("question", k=k)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("5", "str '5'"),
        (None, "None"),
        (True, "True"),
        (1.5, "float 1.5"),
        (Decimal("1.5"), "Decimal 1.5"),
        (np.float64(1.5), "float64 1.5"),
        ([1, {"a": None}], "list [1, {'a': None}]"),
        (Color.RED, "a Color"),
        (ef.Document("a", "text"), "a Document"),
        ([object()], "a list"),
        (object(), "an object"),
        (fleet_of_nothing, "a function"),
        (Hostile(), "a Hostile"),
    ],
)
def test_an_error_shows_plain_data_and_says_of_all_else_what_it_is(given, said):
    with pytest.raises(WrongType) as raised:
        arguments.whole("search", "k", given)
    assert f"search: k is a whole number from 1 to 2,147,483,647, not {said}." == str(raised.value)


def test_a_name_that_has_to_be_given_is_not_none(fleet):
    fleet.collection("docs", model="fake/16")
    for ask in (fleet.collection, lambda name: fleet.plan(name, []), fleet.resume):
        with pytest.raises(WrongType, match="a string, not None"):
            ask(None)


@pytest.mark.parametrize("k", ["5", 1.0, None, True])
def test_a_number_of_hits_of_another_type_is_a_type_error(fleet, k):
    docs = fleet.collection("docs", model="fake/16")
    with pytest.raises(WrongType, match="k is a whole number") as raised:
        docs.search("question", k=k)
    assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize(
    "given",
    [
        "a text",
        b"bytes",
        {"key": "a", "text": "b"},
        ["a text", "another"],
        [{"key": "a", "text": "b"}],
        ef.Document("a", "text"),
        5,
        None,
        (text for text in ["a"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_document_is_refused_with_the_right_call(fleet, given):
    docs = fleet.collection("docs", model="fake/16")
    for call in (docs.enqueue, docs.plan, lambda given: asyncio.run(docs.aenqueue(given))):
        with pytest.raises(NotDocuments, match=r"docs.enqueue\(\[ef.Document") as raised:
            call(given)
        assert isinstance(raised.value, TypeError)
        if not isinstance(given, str | bytes | dict | list):
            break
    assert [] == fleet.jobs()


def test_an_asynchronous_stream_is_refused_with_the_call_that_takes_it(fleet):
    async def stream():
        yield ef.Document("a", "text")

    with pytest.raises(NotDocuments, match="aenqueue"):
        fleet.collection("docs", model="fake/16").enqueue(stream())


def test_keys_that_come_as_one_string_are_not_taken_for_letters(fleet):
    with pytest.raises(WrongType, match="a list of strings"):
        fleet.collection("docs", model="fake/16").delete("vpn.md")


def test_a_pool_that_is_all_in_use_says_which_setting_widens_it(
    migrated_url, redis_url, monkeypatch
):
    monkeypatch.setattr("embedfleet_schema.database.POOL_TIMEOUT_S", 0.2)
    with ef.connect(migrated_url, redis_url, max_connections=1) as fleet:
        with (
            fleet.db.transaction(),
            pytest.raises(ConnectionsInUse, match="EMBEDFLEET_MAX_CONNECTIONS"),
        ):
            fleet.collections()
        assert [] == fleet.collections()


def test_an_error_of_the_callers_own_database_stays_as_it_is(fleet):
    import psycopg

    def rows():
        yield ef.Document("a", "text")
        raise psycopg.errors.UndefinedTable("of the caller")

    docs = fleet.collection("docs", model="fake/16")
    with pytest.raises(psycopg.errors.UndefinedTable, match="of the caller"):
        docs.enqueue(rows())


def test_a_setting_that_does_not_exist_is_refused(migrated_url):
    with pytest.raises(BadSettings, match="did you mean batch_tokens_cpu"):
        ef.connect(migrated_url, batch_token_cpu=4096)


@pytest.mark.parametrize("variable", ["EMBEDFLEET_PRICES", "EMBEDFLEET_ALLOWED_MODELS"])
def test_a_variable_that_is_no_json_is_refused(migrated_url, monkeypatch, variable):
    monkeypatch.setenv(variable, "{secret")
    with pytest.raises(BadSettings) as raised:
        ef.connect(migrated_url)
    assert "secret" not in str(raised.value)
