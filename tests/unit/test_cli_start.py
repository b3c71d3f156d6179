"""The command line as it starts: what it imports, what it says of itself."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest
from typer import Typer

from embedfleet.cli import main
from embedfleet.cli.app import COMMANDS as COMMANDS_OF
from embedfleet.cli.app import word_of

HEAVY = ("torch", "celery", "sqlalchemy", "pydantic", "numpy", "psycopg", "rich", "redis")
COMMANDS = [
    "demo",
    "up",
    "down",
    "migrate",
    "index",
    "enqueue",
    "delete",
    "search",
    "status",
    "cancel",
    "pause",
    "resume",
    "watch",
    "worker",
    "failures",
    "retry",
    "audit",
    "doctor",
    "collection",
    "limits",
]
IMPORTS = """
import json, sys
from embedfleet.cli import main
code = main(sys.argv[1:])
print(json.dumps([name for name in {heavy} if name in sys.modules]), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str):
    assert [] == heavy_after(option)


def test_help_of_a_command_imports_no_more_than_typer_itself_needs_to_read_options():
    assert ["pydantic"] == heavy_after("collection", "create", "--help")


def heavy_after(*words: str) -> list[str]:
    """The heavy packages that a call of the command has imported."""
    command = [sys.executable, "-c", IMPORTS.format(heavy=HEAVY), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stderr)


def test_importing_the_package_imports_nothing_heavy():
    code = f"import embedfleet, sys; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


# What a search that a worker embeds the text of does without.
OTHERS = [
    *("torch", "tokenizers", "psutil", "multiprocessing", "redis", "celery", "sqlalchemy", "rich"),
    *("openai", "embedfleet_workers", "embedfleet_producer.readers", "embedfleet_producer.enqueue"),
    "embedfleet.evaluation",
    *("embedfleet.erasing", "embedfleet.limits", "embedfleet.provider_stops"),
    "embedfleet_schema.store.explain",
]


def test_a_search_imports_nothing_that_only_other_commands_need():
    code = (
        "import embedfleet.cli.app, embedfleet.fleet, sys;"
        "embedfleet.cli.app.application('search');"
        f"print([name for name in {OTHERS} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_a_command_imports_the_modules_of_no_others():
    code = (
        "import sys; from embedfleet.cli.app import COMMANDS, application; application('search');"
        "print([name for name in COMMANDS if f'embedfleet.cli.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "['search']\n" == done.stdout


@pytest.mark.parametrize("module", COMMANDS_OF)
def test_each_module_is_listed_with_its_commands(module: str):
    made = Typer()
    import_module(f"embedfleet.cli.{module}").add_to(made)
    words = [word_of(each) for each in made.registered_commands]
    words += [str(each.name) for each in made.registered_groups]
    assert COMMANDS_OF[module] == tuple(words)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    assert 0 == main(["--help"])
    listed = capsys.readouterr().out.partition("Commands:")[2].split("\n")
    named = {line.split()[0] for line in listed if line.strip()}
    assert set(COMMANDS) <= named


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    assert 0 == main([command, "--help"])
    assert capsys.readouterr().out.startswith(f"Usage: embedfleet {command}")


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]):
    assert 0 == main(["--version"])
    assert f"embedfleet {version('embedfleet')}\n" == capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "embedfleet", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (1, "") == (done.returncode, done.stderr)
