"""`--json`: on every command, and for what goes wrong, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from embedfleet.cli.app import application

if TYPE_CHECKING:
    from plugins.command_line import Command


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*path, name))
        else:
            yield " ".join((*path, name)), found


COMMANDS = dict(commands(get_command(application())))


# What it prints is the protocol.
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"mcp"}))
def test_every_command_takes_it(name: str):
    assert any("--json" in option.opts for option in COMMANDS[name].params)


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (["collection", "show", "none"], "UnknownCollection", 2),
        (["status", "999"], "UnknownJob", 2),
        (["search", "none", "text"], "UnknownCollection", 2),
        (["status", "--nonsense"], "NoSuchOption", 2),
        (["enqueue", "handbook", "missing.txt"], "InputMissing", 2),
    ],
)
def test_an_error_is_data_for_whoever_asked_for_json(
    command: Command, handbook: str, words: list[str], kind: str, code: int
):
    ended = command(*words, "--json")
    error = ended.json["error"]
    assert (kind, code, code) == (error["kind"], error["exit_code"], ended.code)
    assert f"error: {error['message']}\n" == ended.err


def test_an_error_without_it_leaves_the_output_empty(command: Command):
    assert ("", 2) == ((ended := command("status", "999")).out, ended.code)


def test_a_text_of_that_name_is_no_option(command: Command, handbook: str):
    ended = command("search", "none", "--", "--json")
    assert "" == ended.out


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_steering_a_job_prints_the_job(command: Command, handbook: str, folder: Any, verb: str):
    job = command("enqueue", handbook, folder, "--json").json["job_id"]
    shown = command(verb, job, "--json").json
    states = {"pause": "paused", "resume": "running", "cancel": "cancelled"}
    assert (job, states[verb]) == (shown["id"], shown["state"])


def test_what_is_rejected_wholly_is_one_object(command: Command, handbook: str, tmp_path: Any):
    (tmp_path / "empty.txt").write_text("")
    ended = command("enqueue", handbook, tmp_path / "empty.txt", "--json")
    assert (1, 1) == (ended.code, json.loads(ended.out)["rejected"])


def test_limits_and_drops_say_what_they_did(command: Command, handbook: str):
    model = "openai/text-embedding-3-small"
    made = command("limits", "set", model, "--tokens", 1000, "--json").json
    assert (model, {"tokens": 1000.0}) == (made["model"], made["limits"])
    assert command("limits", "clear", model, "--json").json["cleared"]
    assert command("index", handbook, "--json").json["built"]
    dropped = command("collection", "drop", handbook, "--yes", "--json").json
    assert {"dropped": handbook, "along": []} == dropped
