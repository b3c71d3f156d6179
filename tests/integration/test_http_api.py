"""The HTTP API as clients use it: OpenAI's client, curl, programs that stream."""

import base64
import json
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import openai
import pytest

import embedfleet as ef
from embedfleet.web import bodies, embeddings, guards, jobs, serving, vectors
from embedfleet.web import documents as uploads
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.embedding_errors import BadAnswer, InputAtFault
from plugins.documents import ROOT, blocks
from plugins.fleets import ask
from plugins.http_consoles import served_with
from plugins.worker_processes import eventually

TEXT = "reset my password"


def fill(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", TEXT, {"lang": "en"}), ef.Document("b", "other words")])
    fleet.collection("secrets", model="fake/8").enqueue([ef.Document("s", "hidden words")])


door = served_with(fill)


@pytest.fixture(scope="module")
def key(door):
    return door.key("all")


@pytest.fixture
def http(door, key):
    with door.client(key) as client:
        yield client


@pytest.fixture
def official(door, key):
    with openai.OpenAI(api_key=key, base_url=f"{door.url}/v1", max_retries=0) as client:
        yield client


def expected(door, texts, kind="query", collection="docs"):
    space = door.fleet.collection(collection).info.space
    return pytest.approx(np.array(fake_vectors(space, texts, kind)), abs=1e-6)


def lines(*documents):
    return "".join(json.dumps(each) + "\n" for each in documents)


def valid(http, path, answer):
    """The answer, once it is what the description of the API says."""
    description = http.get("/openapi.json").json()
    (operation,) = description["paths"][path].values()
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]
    jsonschema.validate(answer.json(), schema["schema"] | {"components": description["components"]})
    return answer.json()


def test_the_official_client_gets_vectors_in_its_own_encoding_and_as_numbers(door, official):
    texts = [TEXT, "日本語 и 🙂", "third"]
    for options in ({}, {"encoding_format": "float"}, {"user": "me", "dimensions": 16}):
        found = official.embeddings.create(model="docs", input=texts, **options)
        assert [0, 1, 2] == [each.index for each in found.data]
        assert np.array([each.embedding for each in found.data]) == expected(door, texts)
        assert 0 < found.usage.prompt_tokens == found.usage.total_tokens
    one = official.embeddings.create(model="fake/16", input=TEXT)
    assert np.array([one.data[0].embedding]) == expected(door, [TEXT])
    as_document = official.embeddings.create(
        model="docs", input=TEXT, extra_body={"input_type": "document"}
    )
    assert np.array([as_document.data[0].embedding]) == expected(door, [TEXT], "document")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"encoding_format": None, "dimensions": None, "user": None},
        {"encoding_format": "base64"},
        {"embedding_format": "float", "input_type": None, "truncate": None},
        {"input": TEXT},
        {"input": TEXT, "model": "16"},
    ],
    ids=str,
)
def test_what_other_clients_send_is_taken(door, http, more):
    """LiteLLM sends null where nothing was chosen, others send nothing, or what means nothing."""
    answer = http.post("/v1/embeddings", json={"model": "docs", "input": [TEXT]} | more)
    (found,) = valid(http, "/v1/embeddings", answer)["data"]
    vector = found["embedding"]
    if isinstance(vector, str):
        vector = np.frombuffer(base64.b64decode(vector), "<f4")
    assert np.array([vector]) == expected(door, [TEXT])


def test_tokens_are_refused_with_what_to_do(http):
    for tokens in ([1, 2, 3], [[1, 2], [3]]):
        answer = http.post("/v1/embeddings", json={"model": "docs", "input": tokens})
        assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


def test_the_official_client_lists_what_can_be_named(official):
    assert ["docs", "secrets"] == [each.id for each in official.models.list()][:2]


@pytest.mark.parametrize(
    "given",
    ["", [], [""], [" \n"], ["a", None], ["a", 5], [[1, 2]], [1, 2], {"a": 1}, None, ["a\0b"], True,
     ["x"] * 2_049, ["\ud800"], "\u200b"],
    ids=lambda given: repr(given)[:20],
)  # fmt: skip
def test_an_input_that_is_no_text_is_the_clients_error(http, given):
    answer = http.post(
        "/v1/embeddings", content=json.dumps({"model": "docs", "input": given}).encode()
    )
    assert 400 == answer.status_code
    assert {"message", "type", "param", "code"} == valid(http, "/v1/embeddings", answer)[
        "error"
    ].keys()


def test_the_official_client_raises_its_own_errors(door, official, key):
    with pytest.raises(openai.NotFoundError, match="no collection or model"):
        official.embeddings.create(model="nothing", input="a")
    with pytest.raises(openai.BadRequestError, match="16 dimensions, not 7"):
        official.embeddings.create(model="docs", input="a", dimensions=7)
    with pytest.raises(openai.AuthenticationError):
        official.with_options(api_key="ef_" + "x" * 43).embeddings.create(model="docs", input="a")
    searcher = door.key("only-search", "search")
    with pytest.raises(openai.PermissionDeniedError, match="scope embeddings"):
        official.with_options(api_key=searcher).embeddings.create(model="docs", input="a")
    slow = official.with_options(api_key=door.key("slow", "embeddings", per_minute=1))
    slow.embeddings.create(model="docs", input="a")
    with pytest.raises(openai.RateLimitError) as told:
        slow.embeddings.create(model="docs", input="b")
    assert 0 < int(told.value.response.headers["retry-after"]) <= 60


def test_a_model_that_no_worker_serves_is_said_so(door, official):
    door.fleet.collection("elsewhere", model="fake/32", queue="cuda")
    with pytest.raises(openai.InternalServerError) as told:
        official.embeddings.create(model="elsewhere", input="a")
    assert (503, "5") == (told.value.status_code, told.value.response.headers["retry-after"])
    assert "no worker serves queue cuda" in str(told.value)


def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(door, http):
    most = door.fleet.collection("docs").info.space.max_tokens
    body = {"model": "docs", "input": "word " * (most + 50)}
    answer = http.post("/v1/embeddings", json=body)
    assert (400, "context_length_exceeded") == (
        answer.status_code,
        answer.json()["error"]["code"],
    )
    assert 200 == http.post("/v1/embeddings", json=body | {"truncate": True}).status_code


def test_only_what_a_model_cannot_take_is_the_fault_of_the_client(door, official, monkeypatch):
    embedder = door.worker._embedder_of(door.fleet.collection("docs").info.space, "cpu")
    for error, status in (
        (InputAtFault(reason="it is poison"), 400),
        (BadAnswer(reason="it is empty"), 503),
    ):

        def fail(*_, raised=error):
            raise raised

        monkeypatch.setattr(embedder, "embed", fail)
        with pytest.raises(openai.APIStatusError) as told:
            official.embeddings.create(model="docs", input=f"ends in {status}")
        assert status == told.value.status_code


def test_two_hundred_clients_at_once_and_a_long_list_get_their_own_vectors(door, key):
    many = [f"long list {n}" for n in range(700)]

    def embed(texts):
        with door.client(key) as client:
            answer = client.post(
                "/v1/embeddings",
                json={"model": "docs", "input": texts, "encoding_format": "base64"},
            )
        assert 200 == answer.status_code, answer.text
        vectors = [base64.b64decode(each["embedding"]) for each in answer.json()["data"]]
        return np.array([np.frombuffer(each, "<f4") for each in vectors])

    texts = [many, *([f"client {n}"] for n in range(200))]
    with ThreadPoolExecutor(201) as threads:
        for wanted, found in zip(texts, threads.map(embed, texts), strict=True):
            assert found == expected(door, wanted)
    assert [(0,)] == ask(door.fleet, "SELECT count(*) FROM embedfleet.query_request")
    assert not door.console.vectors._open


def test_a_client_that_leaves_takes_its_requests_back(door, key):
    """All but what a worker has begun."""
    unserved = door.fleet.collection("unserved", model="fake/24")
    door.worker._cooling.cool(unserved.info.space_id, "cpu", 3_600)
    waiting = "SELECT count(*) FROM embedfleet.query_request WHERE starts_with(text, 'nobody')"
    body = json.dumps({"model": "unserved", "input": [f"nobody {n}" for n in range(3)]}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2]))) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: ask(door.fleet, waiting) == [(3,)])
        ask(
            door.fleet,
            "UPDATE embedfleet.query_request SET claimed_until = now() + interval '1 hour'"
            " WHERE text = 'nobody 0'",
        )
    eventually(lambda: ask(door.fleet, waiting) == [(1,)])
    eventually(lambda: not door.console.vectors._open)


def test_documents_are_streamed_and_each_line_gets_its_verdict(door, http):
    door.fleet.collection("added", model="fake/16")

    def body():
        yield lines({"key": "1", "text": "first words", "year": 2020}).encode()
        yield b'{"key": "2", "text": "sec'
        yield b'ond"}\n{"text": "no key"}\nno json\n{"key": "4"}\n'

    path = "/collections/added/documents"
    answer = http.post(path, content=body(), params={"source": "mine", "tenant": "t"})
    found = valid(http, "/collections/{name}/documents", answer)
    assert (202, 2, 3) == (answer.status_code, found["documents"], found["rejected"])
    assert {"BAD_KEY", "BAD_JSON", "MISSING_TEXT"} == {each["code"] for each in found["rejections"]}
    status = valid(http, "/jobs/{id}", http.get(answer.headers["location"]))
    assert ("added", "t") == (status["collection"], status["tenant"])
    while door.worker.run_one("cpu") != "idle":
        pass
    assert ["mine"] == [
        source
        for (source,) in ask(
            door.fleet,
            "SELECT DISTINCT source FROM embedfleet."
            f"{door.fleet.collection('added').info.documents}",
        )
    ]
    hits = http.post("/collections/added/search", json={"query": "first words", "k": 1})
    (hit,) = valid(http, "/collections/{name}/search", hits)["hits"]
    assert ("1", {"year": 2020}) == (hit["document"], hit["metadata"])


def test_a_key_of_a_request_makes_one_job(door, http):
    door.fleet.collection("once", model="fake/16")
    path, named = "/collections/once/documents", {"Idempotency-Key": "import-7"}
    body = lines({"key": "1", "text": "words"}, {"key": "2"})
    first = http.post(path, content=body, headers=named)
    again = http.post(path, content=body, headers=named)
    assert (202, "true") == (again.status_code, again.headers["idempotency-replayed"])
    assert first.json() == again.json()
    assert 422 == http.post(path, content=body + body, headers=named).status_code
    assert 422 == http.post(f"{path}?source=x", content=body, headers=named).status_code
    assert 422 == http.post("/collections/docs/documents", content=body, headers=named).status_code
    other = door.key("other-documents", "documents")
    with door.client(other) as client:
        another = client.post(path, content=body, headers=named)
    assert another.json()["job"] != first.json()["job"]


def test_an_upload_that_breaks_off_keeps_what_came_and_frees_its_key(door, http, key):
    door.fleet.collection("broken", model="fake/16")
    named = {"Idempotency-Key": "broken-1"}
    path, line = "/collections/broken/documents", lines({"key": "1", "text": "first words"})
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    head += "Idempotency-Key: broken-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun = "SELECT count(*) FROM embedfleet.idempotency_key WHERE body IS NULL"
    with socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2]))) as client:
        client.sendall(f"{head}{len(line):x}\r\n{line}\r\n".encode())
        eventually(lambda: ask(door.fleet, begun) == [(1,)])
    broken = "SELECT interrupted_at IS NOT NULL FROM embedfleet.job JOIN embedfleet.collection c"
    broken += " ON c.id = collection_id WHERE c.name = 'broken'"
    eventually(lambda: ask(door.fleet, broken) == [(True,)])
    left = "SELECT count(*) FROM embedfleet.idempotency_key WHERE body IS NULL"
    eventually(lambda: ask(door.fleet, left) == [(0,)])
    whole = lines({"key": "1", "text": "first words"}, {"key": "2", "text": "second"})
    again = http.post(path, content=whole, headers=named).json()
    assert (1, 1) == (again["documents"], again["unchanged"])


def test_no_body_is_whole_in_memory(door, http, monkeypatch):
    """What was read and not yet cut is bounded, however fast a client sends."""
    door.fleet.collection("large", model="fake/16", queue="cuda")  # nobody embeds it
    most, following = 0, uploads.Upload._next

    def watched(upload):
        nonlocal most
        most = max(most, upload._pieces.qsize())
        return following(upload)

    monkeypatch.setattr(uploads.Upload, "_next", watched)
    body = (lines({"key": str(n), "text": f"{n} " + "word " * 2_000}).encode() for n in range(300))
    answer = http.post("/collections/large/documents", content=body)
    assert 300 == answer.json()["documents"]
    assert 0 < most <= uploads.AHEAD + 1


def test_searches_take_a_vector_a_filter_and_words(door, http):
    path = "/collections/docs/search"
    (vector,) = fake_vectors(door.fleet.collection("docs").info.space, [TEXT], "query").tolist()
    for body in ({"vector": vector}, {"query": TEXT}, {"query": TEXT, "hybrid": True}):
        found = valid(http, "/collections/{name}/search", http.post(path, json=body))
        assert "a" == found["hits"][0]["document"]
    filtered = http.post(path, json={"query": TEXT, "filter": {"lang": "de"}})
    assert [] == filtered.json()["hits"]
    for wrong in (
        {}, {"query": "a", "vector": vector}, {"vector": [1.0]}, {"vector": ["1"]}, {"query": ""},
        {"query": "a", "k": 0}, {"query": "a", "k": 10**30},
        {"query": "a", "filter": {"a": {"b": 1}}},
        {"query": "a", "limit": 3}, {"vector": vector, "hybrid": True}, {"vector": [1e300] * 16},
        {"query": "a", "min_score": "x"}, {"query": "a", "filter": {"a\0": 1}},
    ):  # fmt: skip
        assert 400 == http.post(path, json=wrong).status_code, wrong


def test_a_job_tells_its_progress_until_it_ends(door, http):
    docs = door.fleet.collection("watched", model="fake/16")
    job = docs.enqueue([ef.Document("1", "words that are new here")])
    events = []
    accept = {"Accept": "text/event-stream"}
    with http.stream("GET", f"/jobs/{job.id}", headers=accept) as answer:
        assert "text/event-stream" == answer.headers["content-type"].partition(";")[0]
        for line in answer.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            if line.startswith("data: ") and not json.loads(line[6:])["finished"]:
                door.worker.run_one("cpu")
    assert ["progress", "end"] == [events[0], events[-1]]
    assert 404 == http.get("/jobs/999999").status_code


def test_collections_of_others_look_like_none(door):
    own = door.key("own", collections=["docs"])
    hidden = door.fleet.collection("secrets").enqueue([])
    with door.client(own) as client:
        assert ["docs"] == [each["id"] for each in client.get("/v1/models").json()["data"]]
        for name in ("secrets", "nowhere", "_texts_1", "Docs", "docs%00", "..%2Fdocs", "%F0%9F"):
            answers = [
                client.post(f"/collections/{name}/search", json={"query": "a"}),
                client.post(f"/collections/{name}/documents", content=lines({"key": "1"})),
            ]
            assert [404, 404] == [each.status_code for each in answers]
            assert not any("secrets" in each.text.replace(name, "") for each in answers)
        body = {"model": "secrets", "input": "a"}
        assert 404 == client.post("/v1/embeddings", json=body).status_code
        assert 404 == client.post("/v1/embeddings", json=body | {"model": "fake/8"}).status_code
        assert 404 == client.get(f"/jobs/{hidden.id}").status_code


def test_a_key_that_is_revoked_or_has_ended_opens_nothing(door):
    ended, revoked = door.key("ended", expires="1m"), door.key("revoked")
    with door.client(revoked) as client:
        assert 200 == client.get("/v1/models").status_code
        door.fleet.api_keys.revoke("revoked")
        eventually(lambda: client.get("/v1/models").status_code == 401)
    ask(door.fleet, "UPDATE embedfleet.api_key SET expires_at = now() WHERE name = 'ended'")
    with door.client(ended) as client:
        assert 401 == client.get("/v1/models").status_code
    stored = ask(door.fleet, "SELECT row_to_json(k)::text FROM embedfleet.api_key k")
    assert not any(ended[3:] in row or revoked[3:] in row for (row,) in stored)


def test_each_curl_of_the_page_works_as_it_stands(door):
    """In order, with a key of the scopes that the page gives it."""
    door.fleet.collection("handbook", model="fake/16")
    headers = {"$KEY": door.key("page", collections=["handbook"])}
    ran = []
    for block in blocks(ROOT / "docs/http.md", "sh"):
        if not block.text.startswith("curl"):
            continue
        _, _, url, *options = shlex.split(block.text)
        pairs = list(zip(options[::2], options[1::2], strict=True))
        sent = dict(value.split(": ", 1) for option, value in pairs if option == "-H")
        sent["Authorization"] = sent["Authorization"].replace("$KEY", headers["$KEY"])
        body = "".join(value for option, value in pairs if option == "-d") or None
        path = url.removeprefix("http://127.0.0.1:8780").replace("/jobs/1", ran[-1] if ran else "")
        with door.client() as client:
            method = "GET" if body is None else "POST"
            answer = client.request(method, path, content=body, headers=sent)
        assert answer.is_success, (str(block), answer.text)
        if "location" in answer.headers:
            ran.append(answer.headers["location"])
    assert 1 == len(ran)


def test_the_page_names_the_limits_that_hold():
    page = (ROOT / "docs/http.md").read_text()
    said = [f"{bodies.MOST_JSON_BYTES // 1_000_000} MB, within {bodies.JSON_S:.0f} s"]
    said += [f"{uploads.MOST_BYTES // 10**9} GB; {bodies.STALL_S:.0f} s without a byte"]
    said += [f"| streams of documents at a time | {uploads.MOST_UPLOADS}:"]
    said += [f"| streams of progress at a time | {jobs.MOST_STREAMS}:"]
    said += [f"| requests at a time | {guards.MOST_REQUESTS:,}:"]
    said += [f"| headers of a request | {serving.HEADERS_S:.0f} s,"]
    said += [f"| {vectors.WINDOW}; the others take turns"]
    said += [f"1 to {embeddings.MOST_TEXTS:,} texts"]
    assert [] == [words for words in said if words not in page]
