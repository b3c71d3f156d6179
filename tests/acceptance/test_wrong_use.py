"""Wrong use of the real command gets one clear line, a next step and an exit code."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.fleet import Fleet
from plugins.command_line import Command

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(fleet: Fleet, tmp_path: Path) -> Run:
    """Runs the command in a process of its own, in an empty folder, with the test's fleet."""
    servers = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    fleet.collection("handbook", "fake/32")

    def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "embedfleet", *words],
            cwd=tmp_path,
            env={**os.environ, **servers, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def here(
    fleet: Fleet, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The same inside the test: how a process starts is the same for each wrong use."""
    fleet.collection("handbook", "fake/32")
    monkeypatch.chdir(tmp_path)
    return command


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(
            ["search", "handbok", "text"],
            2,
            "There is no collection 'handbok'. There are: handbook. Create it with: embedfleet "
            "collection create handbok --model MODEL",
            id="an unknown collection",
        ),
        pytest.param(
            ["enqueue", "handbook", "file.txt", "--model", "fake/64"],
            2,
            "Collection 'handbook' holds vectors of fake/32 (32 dimensions, vector, cosine), not "
            "of fake/64 (64 dimensions, vector, cosine), and the two cannot be compared. Open it "
            "with its own model, or create another collection",
            id="a wrong model for a name",
        ),
        pytest.param(
            ["collection", "create", "new", "--model", "local/no-such-dir/../x"],
            2,
            "does not name a model",
            id="a model that nothing can be called",
        ),
        pytest.param(
            ["collection", "create", "Hand-Book", "--model", "fake/32"],
            2,
            "Use up to 63 of a-z, 0-9 and _, starting with a letter.",
            id="a name that cannot be a view",
        ),
        pytest.param(
            ["enqueue", "handbook", "missing.txt"],
            2,
            "Nothing to enqueue: missing.txt: no such file or folder.",
            id="a missing file",
        ),
        pytest.param(
            ["enqueue", "handbook", "empty"],
            2,
            "Nothing to enqueue: empty: the folder is empty.",
            id="an empty folder",
        ),
        pytest.param(
            ["enqueue", "handbook", "loop.txt"],
            1,
            "None of 1 inputs was accepted. The first is loop.txt: too many levels of symbolic "
            "links. List all of them with: embedfleet failures handbook",
            id="an unreadable file",
        ),
        pytest.param(
            ["search", "handbook", "text", "--where", "lang"],
            2,
            "The filter 'lang' is not understood: there is no = in it. Write --where key=value",
            id="a bad --where",
        ),
        pytest.param(
            ["serch", "handbook", "text"],
            2,
            "No such command 'serch'. Did you mean 'search'? See: embedfleet --help",
            id="a mistyped command",
        ),
        pytest.param(
            ["collection", "crete", "x"],
            2,
            "Did you mean 'create'? See: embedfleet collection --help",
            id="a mistyped command of a group",
        ),
        pytest.param(
            ["explain", "handbook"],
            2,
            "Missing argument 'KEY'. See: embedfleet explain --help",
            id="a missing argument",
        ),
        pytest.param(
            ["search", "handbook"],
            2,
            "Give a TEXT to search for, or --interactive to be asked for texts",
            id="nothing to search for",
        ),
        pytest.param(
            ["search", "handbook", "text", "-k", "many"],
            2,
            "See: embedfleet search --help",
            id="a number that is none",
        ),
        pytest.param(
            ["worker", "--queue", "gpu"],
            2,
            "See: embedfleet worker --help",
            id="a queue that does not exist",
        ),
        pytest.param(
            ["status", "99999"],
            2,
            "There is no job 99999. It may have been dropped with its collection, or removed some",
            id="an unknown job",
        ),
        pytest.param(
            ["retry", "9" * 40],
            2,
            "List the latest jobs with: embedfleet status",
            id="a huge number",
        ),
        pytest.param(
            ["collection", "drop", "handbook"], 2, "add --yes", id="a drop that nobody confirms"
        ),
    ],
)
def test_wrong_use_gets_one_line_a_next_step_and_an_exit_code(
    here: Command, tmp_path: Path, words: list[str], code: int, said: str
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    ended = here(*words)
    assert (code, 1) == (ended.code, len(ended.err.splitlines())), ended.err
    assert ended.err.startswith("error: ")
    assert said in ended.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["search", "handbook"], 2, id="refused by the parser"),
        pytest.param(["search", "handbok", "text"], 2, id="refused by us"),
        pytest.param(["enqueue", "handbook", "loop.txt"], 1, id="a file is refused"),
    ],
)
def test_a_process_ends_as_the_command_does(
    run: Run, here: Command, tmp_path: Path, words: list[str], code: int
):
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    ended, expected = run(*words), here(*words)
    assert (code, expected.err) == (ended.returncode, ended.stderr)
    assert code == expected.code


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:1/db", "PostgreSQL at 127.0.0.1:1/db does not answer"),
        ("postgresql://me:secret@no-such-host.invalid/db", "run: embedfleet doctor"),
    ],
)
def test_an_unreachable_database_is_named_without_its_password(
    here: Command, monkeypatch: pytest.MonkeyPatch, url: str, said: str
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", url)
    ended = here("status")
    assert (1, 1) == (ended.code, len(ended.err.splitlines())), ended.err
    assert said in ended.err
    assert "secret" not in ended.err + ended.out


@pytest.mark.parametrize(
    ("variable", "url", "said"),
    [
        ("EMBEDFLEET_DATABASE_URL", "mysql://me:secret@host/db", "start with postgresql://"),
        ("EMBEDFLEET_DATABASE_URL", "postgresql://me:a@secret@host/db", "write them as %40"),
        ("EMBEDFLEET_DATABASE_URL", "postgresql://me:12/secret@host/db", "write them as %40"),
        ("EMBEDFLEET_REDIS_URL", "redis://:12/secret@host/0", "write them as %2F"),
        ("EMBEDFLEET_REDIS_URL", "amqp://me:secret@host/0", "starts with none of redis://"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(
    here: Command, monkeypatch: pytest.MonkeyPatch, variable, url, said
):
    monkeypatch.setenv(variable, url)
    ended = here("status")
    assert (2, 1) == (ended.code, len(ended.err.splitlines())), ended.err
    assert said in ended.err
    assert "secret" not in ended.err + ended.out


def test_a_database_without_tables_leads_to_migrate(
    here: Command, monkeypatch: pytest.MonkeyPatch, database_url: str
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", database_url)
    ended = here("status")
    assert (1, 1) == (ended.code, len(ended.err.splitlines())), ended.err
    assert "has no embedfleet tables. Create them with: embedfleet migrate" in ended.err


def test_a_setting_that_does_not_parse_is_named(here: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMBEDFLEET_LEASE_SECONDS", "soon")
    ended = here("status")
    assert (2, 1) == (ended.code, len(ended.err.splitlines())), ended.err
    assert "lease_seconds" in ended.err


def test_debug_shows_the_traceback_before_the_line(run: Run):
    ended = run("search", "handbok", "text", "--debug")
    assert 2 == ended.returncode
    assert "Traceback (most recent call last):" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: There is no collection 'handbok'.")


def test_data_of_a_failed_command_stays_readable(run: Run, tmp_path: Path):
    (tmp_path / "unknown.xyz").write_text("?")
    ended = run("enqueue", "handbook", "unknown.xyz", "--json")
    assert 1 == ended.returncode
    assert '"code": "UNKNOWN_TYPE"' in ended.stdout
    assert 1 == len(ended.stderr.splitlines())
