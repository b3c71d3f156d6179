"""How documents are cut, as the command line says it and refuses it."""

import pytest

from plugins.command_line import Command
from plugins.fleets import drain

CREATE = ("collection", "create", "docs", "--model", "fake/16")


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("one two three four. " * 60)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "513"), "choose 512 or less"),
        (("--size", "20", "--overlap", "20"), "choose 0 to 19"),
        (("--overlap", "400"), "overlap 400 is not smaller than size 400"),
    ],
)
def test_a_chunking_that_cannot_work_is_refused_before_anything_is_made(
    command: Command, notes, options, said
):
    for words in (
        (*CREATE, *options),
        ("plan", "docs", notes, "--model", "fake/16", *options),
        ("enqueue", "docs", notes, "--model", "fake/16", *options),
    ):
        answer = command(*words)
        assert (2, "") == (answer.code, answer.out)
        assert said in answer.err
    assert [] == command("collection", "list", "--json").json


def test_a_collection_shows_the_size_that_nobody_chose(command: Command):
    assert 0 == command(*CREATE).code
    chunking = command("collection", "show", "docs", "--json").json["chunking"]
    assert {
        "size": 400,
        "overlap": 0,
        "mode": "text",
        "tokenizer": "",
        "too_long": "reject",
        "template": "",
    } == chunking


def test_enqueue_makes_a_collection_that_cuts_as_it_says(command: Command, notes):
    options = ("--size", "30", "--overlap", "5", "--mode", "markdown", "--too-long", "split")
    answer = command("enqueue", "docs", notes, "--model", "fake/16", *options, "--json")
    assert answer.json["chunks"] > 300 / 30
    shown = command("collection", "show", "docs", "--json").json["chunking"]
    assert (30, 5, "markdown", "split") == tuple(
        shown[name] for name in ("size", "overlap", "mode", "too_long")
    )
    assert 0 == command("enqueue", "docs", notes, "--size", "30", *options[2:]).code
    other = command("enqueue", "docs", notes, "--size", "31")
    assert 2 == other.code
    assert "cuts its documents with" in other.err


def test_a_template_is_told_its_cost_and_changed_when_that_is_said(command: Command, notes, worker):
    typed, template = r"{path}\n\n{content}", "{path}\n\n{content}"
    assert 0 == command(*CREATE, "--template", r"{key}\n{content}").code
    assert r"template '{key}\n{content}'" in command("collection", "show", "docs").out
    assert 0 == command("enqueue", "docs", notes).code
    change = ("collection", "set", "docs", "--template", typed)
    answer = command(*change)
    assert 2 == answer.code
    assert "1 document new or changed, 0 unchanged, 0 rejected" in answer.out
    assert "you pay for " in answer.out
    assert "Nothing was changed. To change 'docs' without confirmation, add --yes" in answer.err
    shown = command(*change, "--json")
    assert (2, 1, None) == (shown.code, shown.json["plan"]["documents"], shown.json["changed"])
    done = command(*change, "--yes")
    assert (0, True) == (done.code, "1 document in a new version, 0 as before" in done.out)
    drain(worker())
    chunking = command("collection", "show", "docs", "--json").json["chunking"]
    assert template == chunking["template"]
    again = command(*change, "--yes", "--json").json
    assert (0, 0) == (again["plan"]["documents"], again["changed"]["documents"])
    refused = command("collection", "set", "docs", "--template", "{title}", "--yes")
    assert (2, True) == (refused.code, "holds {content} once, at its end" in refused.err)


def test_enqueue_and_plan_say_what_the_model_does_not_read(command: Command, tmp_path):
    path = tmp_path / "thai.txt"
    path.write_text("สวัสดีครับ")
    options = ("--model", "fake/16", "--tokenizer", "all-MiniLM-L6-v2")
    assert "1 text would fail" in command("plan", "docs", path, *options).out
    answer = command("enqueue", "docs", path, *options)
    assert "1 failed" in answer.out
    assert "fake/16 cannot embed 1 chunk. See which: embedfleet failures docs" in answer.err
    assert "UNREADABLE_BY_MODEL" in command("failures", "docs").out


def test_a_search_for_nothing_is_wrong_use(command: Command):
    assert 0 == command(*CREATE).code
    answer = command("search", "docs", " \u200b")
    assert (2, "") == (answer.code, answer.out)
    assert "no visible text" in answer.err
