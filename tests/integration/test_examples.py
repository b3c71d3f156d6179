"""The scripts in examples/, run as a person runs them."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from plugins.documents import ROOT
from plugins.fleets import ask

MODEL = "fake/16"
Run = Callable[..., str]


@pytest.fixture
def example(fleet: Fleet, embedding: None, tmp_path: Path) -> Run:
    """Runs an example against the test's fleet, while a worker embeds; returns what it printed."""
    servers = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }

    def run(name: str, *words: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / name, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **servers, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        return done.stdout

    return run


def save(path: Path, articles: dict[str, str]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS article (slug PRIMARY KEY, title, body)")
        rows = [(slug, slug.title(), body) for slug, body in articles.items()]
        database.executemany("INSERT OR REPLACE INTO article VALUES (?, ?, ?)", rows)


def git(folder: Path, *words: str) -> None:
    settings = ("user.name=Ada", "user.email=ada@example.org", "commit.gpgsign=false")
    given = [word for setting in settings for word in ("-c", setting)]
    subprocess.run(["git", "-C", folder, *given, *words], check=True, capture_output=True)  # noqa: S607


def test_rows_of_a_database_are_enqueued_and_only_changed_ones_again(example, fleet, tmp_path):
    path = tmp_path / "articles.sqlite3"
    save(path, {"vpn": "Reset it in the portal.", "leave": "Ask your lead.", "": "No slug."})
    out = example("enqueue_from_generator.py", path, "--model", MODEL)
    assert "not accepted: : a key must be a string of at least one character" in out
    assert "2 new or changed, 0 unchanged, 2 texts embedded" in out
    save(path, {"vpn": "Reset it at the desk."})
    out = example("enqueue_from_generator.py", path, "--model", MODEL)
    assert "1 new or changed, 1 unchanged, 1 texts embedded" in out
    assert fleet.collection("articles").audit().stored == 2


def test_the_commits_of_a_repository_are_enqueued_while_git_reads_them(example, fleet, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init")
    for number in range(5):
        message = f"Fix bug {number}\n\nIt had à cause."
        git(folder, "commit", "--allow-empty", "--message", message)
    out = example("async_enqueue.py", folder, "--model", MODEL, "--query", "why?")
    assert "5 texts embedded, 0 failed" in out
    assert out.count("Fix bug") == 3
    (hit,) = fleet.collection("commits").search("why?", k=1, where={"author": "Ada"})
    assert hit.content.endswith("It had à cause.")


def test_chunks_are_embedded_with_what_an_llm_says_and_it_is_asked_once(
    example, fleet, provider, tmp_path
):
    server = provider()
    access = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.url}
    text = "# VPN\n\n" + "".join(f"Reset it {n} times. " for n in range(300))
    (tmp_path / "guide.md").write_text(text)

    def enqueue(collection):
        words = ("guide.md", "--collection", collection, "--model", MODEL, "--llm", "an-llm")
        return example("contextual_chunks.py", *words, **access)

    assert "1 new or changed, 0 unchanged" in enqueue("first")
    asked = server.account()["models"]["an-llm"]["received"]
    shown = "SELECT content, context FROM embedfleet.{} ORDER BY position"
    rows = ask(fleet, shown.format("first"))
    assert len(rows) == asked > 1
    assert all(context.startswith("Said of ") for _, context in rows)
    assert "0 new or changed, 1 unchanged" in enqueue("first")
    assert "1 new or changed, 0 unchanged" in enqueue("second")
    assert rows == ask(fleet, shown.format("second"))
    assert asked == server.account()["models"]["an-llm"]["received"]


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_a_search_with_plain_sql_gives_the_best_chunk_of_each_document(example, fleet, storage):
    docs = fleet.collection("handbook", model=MODEL, storage=storage)
    documents = [
        ef.Document("a.md", chunks=["one", "two", "three"], metadata={"lang": "en"}),
        ef.Document("b.md", chunks=["four", "five"], metadata={"lang": "en"}),
        ef.Document("c.md", "six", {"lang": "de"}),
    ]
    docs.enqueue(documents).wait()
    out = example("search_with_sql.py", "handbook", "how?", "--where", "lang=en")
    nearest = docs.search("how?", k=10, where={"lang": "en"})
    order = list(dict.fromkeys(hit.document for hit in nearest))
    assert order == [line.split()[1].removesuffix(":") for line in out.splitlines()]
    assert nearest[0].content in out.splitlines()[0]
