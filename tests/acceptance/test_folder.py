"""A folder of real files from the command line to searchable rows, with the real model."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from embedfleet.fleet import Fleet
from embedfleet.stdlib_docs import documents
from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.settings import load_settings
from plugins.servers import stack_folder

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

FILES = 510
# Small batches; and the vectors that a plain sentence-transformers gives, on any CPU.
SETTINGS = {"EMBEDFLEET_BATCH_TOKENS_CPU": "1024", "EMBEDFLEET_PRECISION": "float32"}


@pytest.fixture(scope="module")
def data():
    with stack_folder() as data:
        yield data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real text in real files: the beginnings of the standard library's docstrings."""
    folder = tmp_path_factory.mktemp("library")
    for number, document in zip(range(FILES), documents(None), strict=False):
        kind = folder / document.metadata["kind"]
        kind.mkdir(exist_ok=True)
        (kind / f"{number:03}.txt").write_text(document.text[:100])
    (folder / "long.md").write_text(
        "\n\n".join(f"# Part {n}\n\n" + "words " * 90 for n in range(6))
    )
    return folder


@pytest.fixture(scope="module")
def embedfleet(data):
    def run(*arguments, check=True):
        done = subprocess.run(  # noqa: PLW1510 - judged below
            [sys.executable, "-m", "embedfleet", "--data", str(data), *arguments],
            env={**os.environ, **SETTINGS},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def job(embedfleet, folder):
    embedfleet("up", "--workers", "2")
    try:
        arguments = ["--model", "all-MiniLM-L6-v2", "--wait", "--json"]
        yield json.loads(embedfleet("enqueue", "library", str(folder), *arguments).stdout)
    finally:
        embedfleet("down")


@pytest.fixture(scope="module")
def docs(job, data):
    with Fleet(load_settings(data=data)) as fleet:
        yield fleet.collection("library")


def vectors(docs):
    with docs._connections.db.transaction() as conn:
        statement = f"SELECT content, embedding FROM embedfleet.{docs.name} ORDER BY id"
        rows = conn.execute(statement).fetchall()
    return [content for content, _ in rows], np.array([row[1].to_numpy() for row in rows])


def test_every_chunk_has_exactly_one_vector(docs, embedfleet):
    found = json.loads(embedfleet("audit", "library", "--json").stdout)
    assert found["documents"] == FILES + 1
    assert (found["missing"], found["extra"], found["failed"]) == (0, 0, 0)
    assert found["texts"] == found["stored"] == docs.counts().vectors


def test_every_vector_equals_plain_sentence_transformers(docs):
    from sentence_transformers import SentenceTransformer

    texts, stored = vectors(docs)
    plain = SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu")
    expected = plain.encode(texts, batch_size=8, normalize_embeddings=True)
    assert np.sum(stored * expected, axis=1).min() >= 0.99999


def test_enqueueing_again_embeds_nothing(job, embedfleet, folder):
    again = json.loads(embedfleet("enqueue", "library", str(folder), "--wait", "--json").stdout)
    assert (0, FILES + 1) == (again["documents"], again["unchanged"])
    assert (0, 0) == (again["chunks"], again["batches"])


def test_changing_one_file_embeds_only_its_changed_chunks(job, embedfleet, folder, docs):
    before = docs.counts().vectors
    text = (folder / "long.md").read_text()
    (folder / "long.md").write_text(text.replace("# Part 5", "# Part five"))
    again = json.loads(embedfleet("enqueue", "library", str(folder), "--wait", "--json").stdout)
    assert (1, FILES) == (again["documents"], again["unchanged"])
    assert again["chunks"] > 1
    assert again["chunks"] - again["reused"] == 1
    assert docs.counts().vectors == before


def test_deleting_a_document_removes_its_rows(job, embedfleet, docs):
    before = docs.counts()
    embedfleet("delete", "library", "long.md")
    after = docs.counts()
    assert after.documents == before.documents - 1
    assert after.vectors < before.vectors
    assert docs.audit().clean
