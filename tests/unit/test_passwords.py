"""A command or a function gives the password of PostgreSQL, or a line says why it does not."""

import os
import pickle
import re
import shlex
import sys
from pathlib import Path

import pytest

import embedfleet as ef
from embedfleet_schema import passwords
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.errors import BadSettings
from embedfleet_schema.passwords import (
    DatabaseUrl,
    NoPassword,
    Passwords,
    of_command,
    of_function,
    passwords_of,
)
from embedfleet_schema.settings import load_settings

ROOT = Path(__file__).parents[2]
SECRET = "hunter22"  # noqa: S105 - of a test


def python(code: str, *words: str) -> str:
    return shlex.join([sys.executable, "-c", code, *words])


def test_a_command_gives_what_it_prints_without_the_end_of_the_line():
    code = "import sys; print(sys.argv[1])"
    # Words are split as a shell does, and nothing of them is a shell's.
    assert "two words; $HOME" == of_command(python(code, "two words; $HOME")).current()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print('{SECRET}'); raise SystemExit(3)", "ended with exit status 3; run it by hand"),
        (f"import sys; print('{SECRET}', file=sys.stderr)", "what gives the password gave none"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "printed what is no text"),
        ("print('x' * 100_000)", "printed more than a password"),
        ("print('a\\0b')", "what gives the password gave none"),
    ],
    ids=["exit status", "nothing", "no text", "much", "NUL"],
)
def test_one_line_says_why_a_command_gave_none_and_quotes_nothing(code, said):
    command = python(code, SECRET)
    with pytest.raises(NoPassword, match=said) as told:
        of_command(command).current()
    assert SECRET not in str(told.value)
    url = DatabaseUrl("postgresql://u@127.0.0.1:1/d", of_command(command))
    with pytest.raises(DatabaseUnreachable, match=said) as told:
        Database(url).revision()
    assert SECRET not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_command_that_is_not_there_or_never_ends_is_named(monkeypatch):
    with pytest.raises(NoPassword, match=r"\(no-such-program\) cannot be run \(FileNotFoundError"):
        of_command(f"/nowhere/no-such-program {SECRET}").current()
    monkeypatch.setattr(passwords, "COMMAND_S", 0.2)
    with pytest.raises(NoPassword, match="did not end within"):
        of_command(python("import time; time.sleep(600)")).current()


def counted():
    asked = []

    def ask():
        asked.append(None)
        return f"password {len(asked)}"

    return ask, asked


def test_a_function_is_asked_for_each_connection():
    given = of_function(counted()[0])
    assert ["password 1", "password 2"] == [given.current(), given.current()]


def test_what_is_kept_is_asked_for_anew_where_it_is_refused_or_too_old(monkeypatch):
    ask, asked = counted()
    given = Passwords(ask, kept_s=3_600.0)
    assert "password 1" == given.current() == given.current()
    assert "password 2" == given.current(refused="password 1")
    # Another thread was refused the older one, and there is a newer one already.
    assert "password 2" == given.current(refused="password 1")
    now = passwords.time.monotonic()
    monkeypatch.setattr(passwords.time, "monotonic", lambda: now + 3_601.0)
    assert "password 3" == given.current()
    assert 3 == len(asked)


def test_a_server_that_is_away_costs_one_question():
    ask, asked = counted()
    with pytest.raises(DatabaseUnreachable, match="refused"):
        Database(DatabaseUrl("postgresql://u@127.0.0.1:1/d", of_function(ask))).revision()
    assert 1 == len(asked)


def test_a_function_that_raises_is_named_by_its_error_alone():
    def ask():
        raise RuntimeError(SECRET)

    url = DatabaseUrl("postgresql://u@127.0.0.1:1/d", of_function(ask))
    with pytest.raises(DatabaseUnreachable, match="the password raised RuntimeError") as told:
        Database(url).revision()
    assert SECRET not in str(told.value)


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent():
    given = Passwords(lambda: "one", kept_s=3_600.0)
    with given._lock:
        if (child := os.fork()) == 0:
            os._exit(0 if given.current() == "one" else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_both_urls_ask_the_same_and_the_embedded_stack_asks_nobody(tmp_path, monkeypatch):
    for name in ("EMBEDFLEET_DATABASE_URL", "DATABASE_URL", "EMBEDFLEET_DIRECT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMBEDFLEET_DATABASE_PASSWORD_COMMAND", python("print('one')"))
    url = "postgresql://u:old@h/d"
    settings = load_settings(database_url=url, direct_database_url=url.replace("h/", "g/"))
    assert url == settings.database
    source = passwords_of(settings.database)
    assert source is not None
    assert source is passwords_of(settings.direct_database)
    assert source is passwords_of(settings.model_copy().database)
    assert "one" == source.current()
    (tmp_path / "stack.json").write_text('{"database_url": "postgresql://h/d"}')
    assert passwords_of(load_settings(data=tmp_path).database) is None


def test_a_function_wins_over_the_command(monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_PASSWORD_COMMAND", python("print('one')"))
    with ef.connect("postgresql://u@h/d", database_password=lambda: "two") as fleet:
        for url in (fleet.db.url, fleet.db.direct_url):
            assert "two" == passwords_of(url).current()
        assert SECRET not in repr(fleet.settings)


def test_another_process_gets_the_url_alone():
    url = DatabaseUrl("postgresql://u@h/d", of_function(lambda: SECRET))
    copied = pickle.loads(pickle.dumps(url))  # noqa: S301 - our own
    assert (url, None) == (copied, passwords_of(copied))


def test_what_cannot_be_a_command_or_a_function_is_refused_at_once():
    for command in ("an 'open quote", "  "):
        with pytest.raises(BadSettings, match="database_password_command: it is no command"):
            load_settings(database_password_command=command)
    with pytest.raises(BadSettings, match="database_password: it is not a function"):
        ef.connect("postgresql://u@h/d", database_password="a password")


def test_connections_are_opened_in_one_place():
    """Elsewhere, whoever opens one would know nothing of passwords that change."""
    folders = ("schema", "producer", "workers", "console")
    calls = re.compile(r"psycopg\.(Async)?(connect\(|Connection\.connect\()|create_async_engine\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if calls.search(path.read_text())
    }
    embedded = "console/embedfleet/stack/postgres.py"  # it makes the embedded stack's database
    assert {"schema/embedfleet_schema/opening.py", embedded} == found
