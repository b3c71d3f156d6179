"""Hostile HTTP: whatever comes, no answer is a 5xx, and nothing of what is hidden is told."""

import json
import socket

import httpx2
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet.web import bodies, serving
from embedfleet.web.openapi import description
from plugins.http_consoles import served_with

HIDDEN = (
    "hiddenwords",
    "secretkey",
    "embedfleet.",
    "SELECT",
    "Traceback",
    ".py",
    "/site-packages",
    "psycopg",
)
FIELDS = ["model", "input", "encoding_format", "dimensions", "input_type", "truncate", "user"]
FIELDS += ["query", "vector", "k", "filter", "min_score", "hybrid", "and", "or", "lang", "gte"]
WORDS = [
    "docs",
    "hiddenwords",
    "fake/16",
    "a",
    "",
    "\0",
    "base64",
    "query",
    "\ud800",
    "%s",
    "'; --",
]
VALUES = st.recursive(
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
LIKELY = st.fixed_dictionaries({"model": st.just("docs"), "input": VALUES})
LIKELY |= st.fixed_dictionaries({"query": st.just("a"), "filter": VALUES, "k": VALUES})
LIKELY |= st.fixed_dictionaries({"vector": VALUES})
BODIES = (LIKELY | VALUES).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)
SEGMENTS = st.sampled_from(
    [
        "docs",
        "hiddenwords",
        "..",
        "%2e%2e",
        "a%2Fb",
        "%00",
        "%ff",
        "-1",
        "1",
        "9" * 30,
        "1e5",
        "\uff11",
    ]
)
PATHS = st.one_of(
    st.sampled_from(["/v1/embeddings", "/v1/models", "/openapi.json", "/healthz"]),
    SEGMENTS.map("/collections/{}/search".format),
    SEGMENTS.map("/collections/{}/documents".format),
    SEGMENTS.map("/jobs/{}".format),
    st.lists(SEGMENTS, max_size=4).map(lambda words: "/" + "/".join(words)),
)
QUERIES = st.dictionaries(
    st.sampled_from(["source", "tenant", "lane", "replace", "x"]),
    st.sampled_from(WORDS[:4]),
    max_size=2,
)
HEADERS = st.dictionaries(
    st.sampled_from(["Idempotency-Key", "Accept", "Content-Type", "Content-Encoding", "Range"]),
    st.sampled_from(["x", "gzip", "text/html", "", "k" * 300]),
    max_size=2,
)  # fmt: skip
each_request = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def fill(fleet):
    fleet.collection("docs", model="fake/16").enqueue(
        [ef.Document("a", "some words", {"lang": "en"})]
    )
    hidden = fleet.collection("hiddenwords", model="fake/8")
    hidden.enqueue([ef.Document("secretkey", "hidden")])


door = served_with(fill)


@pytest.fixture(scope="module")
def http(door):
    with door.client(door.key("docs-only", collections=["docs"])) as client:
        yield client


@pytest.fixture(scope="module")
def nobody(door):
    with door.client() as client:
        yield client


def described(path, method, answer):
    """Raise where an answer of a known path is not as the description says."""
    paths = description()["paths"]
    parts = path.partition("?")[0].strip("/").split("/")
    for template, operations in paths.items():
        names = template.strip("/").split("/")
        fits = len(names) == len(parts) and all(
            a == b or a.startswith("{") for a, b in zip(names, parts, strict=True)
        )
        if fits and method.lower() in operations and parts[-1] and ".." not in parts:
            answers = operations[method.lower()]["responses"]
            assert str(answer.status_code) in answers, (path, answer.status_code)
            kinds = answers[str(answer.status_code)]["content"]
            schema = kinds["application/json"]["schema"]
            whole = schema | {"components": description()["components"]}
            jsonschema.validate(answer.json(), whole)
            return


def sent(client, method, path, body, query, headers):
    return client.request(method, path, content=body, params=query, headers=headers)


@each_request
@given(
    st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE"]),
    PATHS,
    BODIES,
    QUERIES,
    HEADERS,
)
def test_no_request_breaks_the_console_or_learns_what_is_hidden(
    http, method, path, body, query, headers
):
    answer = sent(http, method, path, body, query, headers)
    assert answer.status_code < 500, answer.text
    asked = f"{path} {body!r} {body.decode(errors='replace')} {query}"
    said = answer.text if path != "/openapi.json" else ""
    assert [] == [word for word in HIDDEN if word in said and word not in asked]
    described(str(answer.url.raw_path, "ascii"), method, answer)


@each_request
@given(
    st.sampled_from(["POST", "GET"]),
    PATHS,
    BODIES,
    st.text(max_size=60) | st.just("ef_" + "x" * 43),
)
def test_without_a_key_there_is_nothing(nobody, method, path, body, key):
    headers = {"Authorization": b"Bearer " + key.encode("utf-8", "ignore")}
    try:
        answer = nobody.request(method, path, content=body, headers=headers)
    except (ValueError, httpx2.LocalProtocolError):
        return  # no header can say that
    if answer.status_code != 400:  # what is no HTTP is refused before
        expected = {200} if path in {"/healthz", "/openapi.json"} else {401, 404}
        assert answer.status_code in expected | {405}


def raw(door, request, until_closed=True):
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2]))) as client:
        client.settimeout(120)
        client.sendall(request)
        taken = b""
        while piece := client.recv(65_536):
            taken += piece
            if not until_closed and b"\r\n\r\n" in taken:
                break
        return taken


def post(door, key, more, body=b""):
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{more}"
    )
    return raw(door, f"{head}\r\n\r\n".encode() + body, until_closed=False)


def test_bodies_that_are_too_large_or_too_slow_are_not_waited_for(door, monkeypatch):
    key = door.key("large")
    assert b" 413 " in post(door, key, "Content-Length: 1000000000000")
    assert b" 400 " in post(door, key, "Content-Length: nonsense")
    monkeypatch.setattr(bodies, "MOST_JSON_BYTES", 1_000)
    assert b" 413 " in post(
        door, key, "Transfer-Encoding: chunked", b"400\r\n" + b" " * 1_024 + b"\r\n"
    )
    monkeypatch.setattr(bodies, "JSON_S", 0.2)
    assert b" 408 " in post(door, key, "Content-Length: 500", b"{")


def test_headers_that_do_not_come_are_not_waited_for(door, monkeypatch):
    monkeypatch.setattr(serving, "HEADERS_S", 0.2)
    assert b"" == raw(door, b"POST /v1/embeddings HTTP/1.1\r\nHost: lo")


def test_a_stream_that_stands_still_ends(door, monkeypatch):
    monkeypatch.setattr(bodies, "STALL_S", 0.2)
    key = door.key("still")
    head = (
        f"POST /collections/docs/documents HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    line = b'{"key": "still", "text": "words"}\n'
    chunk = f"{len(line):x}\r\n".encode() + line + b"\r\n"
    assert b" 408 " in raw(door, head.encode() + chunk, until_closed=False)


def test_a_foreign_host_name_is_refused_where_only_this_machine_is_served(door):
    """A page elsewhere can point its own name here (DNS rebinding)."""
    assert b" 421 " in raw(
        door, b"GET /healthz HTTP/1.1\r\nHost: evil.example:1\r\n\r\n", until_closed=False
    )
    for name in (b"localhost", b"127.0.0.1:80", b"[::1]:80"):
        found = raw(
            door, b"GET /healthz HTTP/1.1\r\nHost: " + name + b"\r\n\r\n", until_closed=False
        )
        assert b" 200 " in found


def test_an_answer_is_not_kept_and_not_shown_in_a_frame(http):
    headers = http.get("/v1/models").headers
    assert "no-store" == headers["cache-control"]
    assert "nosniff" == headers["x-content-type-options"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
