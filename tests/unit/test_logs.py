"""What a line of a log looks like: for machines, for people, and without secrets."""

import io
import json
import logging

import pytest

from embedfleet.stack.files import last_words
from embedfleet_schema.logs import message_of, write_log
from plugins.command_line import log_as_before


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def root_as_before():
    with log_as_before():
        yield


def test_without_a_terminal_a_line_is_an_object():
    output = io.StringIO()
    write_log("INFO", "auto", stream=output)
    logging.getLogger("embedfleet_workers.pipeline").warning("batch %d: grüße", 7)
    logging.getLogger("embedfleet_workers.pipeline").debug("not this")
    (line,) = output.getvalue().splitlines()
    told = json.loads(line)
    assert ("batch 7: grüße", "warning") == (told["event"], told["level"])
    assert "embedfleet_workers.pipeline" == told["logger"]
    assert "grüße" in line
    assert {"event", "level", "logger", "timestamp", "process", "pid"} == set(told)
    assert told["timestamp"].endswith("Z")


def test_on_a_terminal_a_line_is_text():
    output = Terminal()
    write_log("INFO", "auto", stream=output)
    logging.getLogger("a").info("batch 7")
    assert "batch 7" in output.getvalue()
    assert not output.getvalue().startswith("{")


@pytest.mark.parametrize(("layout", "begins"), [("json", "{"), ("text", "2")])
def test_a_setting_decides_otherwise(layout, begins):
    output = io.StringIO()
    write_log("INFO", layout, stream=output)
    logging.getLogger("a").info("batch 7")
    assert output.getvalue().startswith(begins)
    assert "\x1b" not in output.getvalue()


@pytest.mark.parametrize("layout", ["json", "text"])
def test_a_url_loses_its_password_also_in_a_traceback(layout):
    output = io.StringIO()
    write_log("INFO", layout, stream=output)
    log = logging.getLogger("a")
    log.warning("no answer from %s", "postgresql://user:hunter2@host/db")
    text = "the words of a document"
    try:
        {}[f"redis://:hunter2@host/0 and password=hunter2 {len(text)}"]
    except KeyError:
        log.exception("failed")
    assert text not in output.getvalue().replace(f'text = "{text}"', "")
    assert "postgresql://user:***@host/db" in output.getvalue()
    assert "Traceback" in output.getvalue()
    assert "hunter2" not in output.getvalue()


def test_a_line_of_several_is_one_line_of_json():
    output = io.StringIO()
    write_log("INFO", "json", stream=output)
    logging.getLogger("a").info("one\ntwo %s", "\x1b[31m")
    (line,) = output.getvalue().splitlines()
    assert "one\ntwo \x1b[31m" == json.loads(line)["event"]


def test_a_log_is_written_once_however_often_it_is_set_up(tmp_path):
    output = io.StringIO()
    for _ in range(3):
        write_log("INFO", "json", stream=output)
    logging.getLogger("a").info("once")
    assert 1 == len(output.getvalue().splitlines())
    write_log("INFO", "auto", file=str(tmp_path / "log"))
    logging.getLogger("a").info("to a file")
    assert "to a file" == message_of((tmp_path / "log").read_text().strip())


@pytest.mark.parametrize(
    "line", ["plain words", "{ no JSON", '{"other": 1}', "[1]", "", '{"event"']
)
def test_what_is_no_line_of_ours_stays_as_it_is(line):
    assert line == message_of(line)


def test_who_asks_why_a_worker_ended_gets_words(tmp_path):
    log = tmp_path / "worker-1.log"
    log.write_text('{"event":"starts","level":"info"}\n\nerror: no GPU\n{"event":"ends"}\n')
    assert "starts / error: no GPU / ends" == last_words([log], 0)
