"""The command line of syncs, and the process that follows them."""

import os
import signal
import subprocess
import sys

from plugins.fleets import ask, drain
from plugins.synced_tables import ARTICLES, ROWS, in_table, texts
from plugins.worker_processes import eventually

CREATE = (
    "sync", "create", "articles", "--table", "public.articles", "--key", "id",
    "--text", "title,body", "--metadata", "lang,published", "--model", "fake/16",
)  # fmt: skip


def test_a_sync_is_created_listed_shown_compared_paused_and_dropped(command, fleet, worker):
    ask(fleet, ARTICLES)
    ask(fleet, ROWS, 1, 5)
    ended = command(*CREATE)
    assert (0, "articles follows public.articles: 5 rows read\n") == (ended.code, ended.out)
    assert "embedfleet sync run" in ended.err
    drain(worker())
    assert in_table(fleet) == texts(fleet)
    ask(fleet, "UPDATE public.articles SET body = 'new' WHERE id < 3")
    (listed,) = command("sync", "list", "--json").json
    assert ("articles", "following", 2) == (listed["name"], listed["state"], listed["behind"])
    assert "public.articles  following" in command("sync", "list").out
    assert "behind      2 rows" in command("sync", "show", "articles").out
    (seen,) = command("status", "--json").json["syncs"]
    assert ("articles", 2) == (seen["name"], seen["behind"])
    assert "Syncs" in command("status").out
    assert "paused" == command("sync", "pause", "articles", "--json").json["state"]
    assert "articles is following\n" == command("sync", "resume", "articles").out
    found = command("sync", "verify", "articles", "--json").json
    assert (5, 0) == (found["compared"], found["differences"])
    assert 0 == command("sync", "list", "--json").json[0]["behind"]
    ended = command("sync", "drop", "articles", "--delete-documents")
    assert "articles follows no table any more, and its documents are deleted\n" == ended.out
    assert [] == list(fleet.collection("articles").documents())
    assert "embedfleet sync create" in command("sync", "list").err


def test_a_comparison_says_what_it_found(command, fleet):
    ask(fleet, ARTICLES)
    ask(fleet, ROWS, 1, 5)
    assert 0 == command(*CREATE).code
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("DELETE FROM public.articles WHERE id = 1")
        conn.execute("UPDATE public.articles SET body = 'unseen' WHERE id = 2")
    ended = command("sync", "verify", "articles", "--dry-run")
    assert "articles: 4 rows compared, 1 changed, 1 of rows that are gone\n" == ended.out
    assert "embedfleet sync verify articles" in ended.err
    ended = command("sync", "verify", "articles")
    assert ended.out.endswith("; stored again\n")
    ended = command("sync", "verify", "articles")
    assert "articles: 4 rows compared, no differences\n" == ended.out


def test_what_cannot_be_followed_is_one_line(command, fleet):
    ended = command(*CREATE)
    assert (2, 1) == (ended.code, len(ended.err.splitlines()))
    assert "no such table" in ended.err


def test_a_process_follows_a_change_and_ends_when_it_is_told_to(command, fleet, worker):
    ask(fleet, ARTICLES)
    ask(fleet, ROWS, 1, 5)
    assert 0 == command(*CREATE).code
    running = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "sync", "run", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )
    try:
        assert running.stdout is not None
        assert '"syncs": 1' in running.stdout.readline()
        ask(fleet, "UPDATE public.articles SET body = 'followed' WHERE id = 1")
        eventually(lambda: ask(fleet, "SELECT count(*) FROM embedfleet.sync_outbox") == [(0,)])
        drain(worker())
        assert in_table(fleet) == texts(fleet)
    finally:
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    assert (0, "following 1 table, and those that are added\n") == (running.returncode, errors)
