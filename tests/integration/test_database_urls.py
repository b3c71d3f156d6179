"""Whatever libpq reads as the address of a database is read by all of us alike."""

import subprocess
import sys
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import UnsuitableDatabase
from embedfleet_schema.migrate import migrate
from embedfleet_schema.revisions import newest
from embedfleet_schema.settings import load_settings
from plugins.documents import ROOT
from plugins.fleets import drain

SERVICE = "embedfleet_test"


def words(url, tmp_path, monkeypatch):
    return make_conninfo(url)


def sqlalchemy_url(url, tmp_path, monkeypatch):
    return url.replace("postgresql://", "postgresql+psycopg2://")


def short_scheme(url, tmp_path, monkeypatch):
    return url.replace("postgresql://", "postgres://")


def several_hosts(url, tmp_path, monkeypatch):
    """The first of them does not answer."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user}@127.0.0.1:1,{host}"
    return parts._replace(netloc=netloc, query="target_session_attrs=read-write").geturl()


def several_hosts_in_words(url, tmp_path, monkeypatch):
    port = conninfo_to_dict(url)["port"]
    return make_conninfo(url, host="127.0.0.1,127.0.0.1", port=f"1,{port}")


def options(url, tmp_path, monkeypatch):
    options = quote("-c work_mem=5MB -c search_path=public")
    return f"{url}{'&' if '?' in url else '?'}options={options}&sslmode=prefer"


def query_alone(url, tmp_path, monkeypatch):
    parts = conninfo_to_dict(url)
    return "postgresql:///?" + "&".join(f"{key}={quote(str(parts[key]))}" for key in parts)


def other_encoding(url, tmp_path, monkeypatch):
    return make_conninfo(url, client_encoding="latin1", connect_timeout="7")


def service(url, tmp_path, monkeypatch):
    lines = [f"{key}={value}" for key, value in conninfo_to_dict(url).items()]
    path = tmp_path / "pg_service.conf"
    path.write_text("\n".join([f"[{SERVICE}]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    return f"service={SERVICE}"


FORMS = [
    words,
    sqlalchemy_url,
    short_scheme,
    several_hosts,
    several_hosts_in_words,
    options,
    query_alone,
    other_encoding,
    service,
]


@pytest.mark.parametrize("form", FORMS)
def test_all_commands_read_it(
    form, database_url, redis_url, tmp_path, monkeypatch, command, worker
):
    url = form(database_url, tmp_path, monkeypatch)
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", url)
    assert 0 == command("migrate").code
    assert 0 == command("collection", "create", "docs", "--model", "fake/16").code
    assert 0 == command("status").code
    assert 1 == command("doctor", "--worker").code
    assert 0 == command("index", "docs").code
    assert "PostgreSQL" in command("doctor").out
    settings = load_settings(database_url=url, redis_url=redis_url)
    with Fleet(settings) as fleet:
        fleet.collection("docs").enqueue([ef.Document("a", "Grüße aus Łódź 🚀")])
        with fleet.db.transaction() as conn:
            stored = conn.execute("SELECT content FROM embedfleet._texts_1").fetchone()
    assert ("Grüße aus Łódź 🚀",) == stored


# What the command `alembic` does, for one URL after the other.
ALEMBIC = """
import os, sys
from alembic.config import main
for url in sys.argv[1:]:
    os.environ["EMBEDFLEET_DATABASE_URL"] = url
    main(["upgrade", "head"])
    main(["current"])
"""


def test_plain_alembic_reads_it(database_url, tmp_path, monkeypatch):
    forms = [words, several_hosts, options, service]
    done = subprocess.run(
        [sys.executable, "-c", ALEMBIC, *(f(database_url, tmp_path, monkeypatch) for f in forms)],
        cwd=ROOT,
        env={"PATH": "", "PGSERVICEFILE": str(tmp_path / "pg_service.conf")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr
    assert [newest()] * len(forms) == [line.split()[0] for line in done.stdout.splitlines()]


def test_what_a_person_asked_for_wins_over_what_we_would_say(migrated_url):
    asked = {"application_name": "mine", "connect_timeout": "7", "options": "-c work_mem=5MB"}
    with Database(make_conninfo(migrated_url, **asked)).connect() as conn:
        assert "7" == conn.info.get_parameters()["connect_timeout"]
        assert ("mine",) == conn.execute("SHOW application_name").fetchone()
        assert ("5MB",) == conn.execute("SHOW work_mem").fetchone()
    with Database(migrated_url).connect() as conn:
        assert ("embedfleet",) == conn.execute("SHOW application_name").fetchone()


# What a role or a database may be set to and statements of ours were not written for.
SETTINGS = {
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "client_encoding": "latin1",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "timezone": "Pacific/Chatham",
    "quote_all_identifiers": "on",
    "enable_seqscan": "off",
    "idle_session_timeout": "1s",
    "lock_timeout": "1ms",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_fleet_works_whatever_a_database_is_set_to(fleet, worker, name):
    database = conninfo_to_dict(fleet.settings.database)["dbname"]
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        if name == "standard_conforming_strings":
            conn.execute(f"ALTER DATABASE {database} SET escape_string_warning = off")
        conn.execute(f"ALTER DATABASE {database} SET {name} = '{SETTINGS[name]}'")
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a\\b", "Grüße 'x' \\n", {"k": "\\"}), ef.Document("b", "other")])
    drain(worker())
    assert "done" == fleet.jobs()[0].status.state
    (hit,) = docs.search(docs.embed_query("x"), where={"k": "\\"})
    assert ("a\\b", "Grüße 'x' \\n") == (hit.document, hit.content)
    assert docs.audit().clean


REFUSED = {
    "encoding": (
        "CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        None,
        "encoding is LATIN1",
    ),
    "read-only": ("CREATE DATABASE {}", "default_transaction_read_only = on", "read-only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_database_that_cannot_hold_a_fleet_is_refused_in_plain_words(
    name, stack, command, monkeypatch
):
    create, setting, words_of_it = REFUSED[name]
    database = f"unsuitable_{name.replace('-', '_')}"
    url = urlsplit(stack.database_url)._replace(path=f"/{database}").geturl()
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(create.format(database))
        try:
            if setting:
                conn.execute(f"ALTER DATABASE {database} SET {setting}")
            with pytest.raises(UnsuitableDatabase, match=words_of_it):
                migrate(url)
            monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", url)
            refused = command("migrate")
            assert (1, True) == (refused.code, words_of_it in refused.err)
            assert "broken  database       " in command("doctor").out
            assert words_of_it in command("doctor").out
        finally:
            conn.execute(f"DROP DATABASE {database} WITH (FORCE)")


def test_a_direct_url_to_another_database_is_refused_by_whoever_needs_it(
    migrated_url, database_url, redis_url, command, monkeypatch
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", migrated_url)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", redis_url)
    # The same one in other words is none.
    monkeypatch.setenv("EMBEDFLEET_DIRECT_DATABASE_URL", make_conninfo(migrated_url))
    assert 0 == command("collection", "create", "docs", "--model", "fake/16").code
    assert 0 == command("migrate").code
    monkeypatch.setenv("EMBEDFLEET_DIRECT_DATABASE_URL", database_url)
    for words in (["migrate"], ["index", "docs"], ["doctor"]):
        answer = command(*words)
        assert 1 == answer.code, words
        assert "EMBEDFLEET_DATABASE_URL names another one" in answer.out + answer.err
    assert Database(database_url).revision() is None


def test_doctor_and_migrate_warn_where_a_commit_is_not_awaited_and_where_strangers_create(
    fleet, command
):
    database = conninfo_to_dict(fleet.settings.database)["dbname"]
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        conn.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    shown = command("doctor").out
    assert "warning database       synchronous_commit is off" in shown
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in shown
    migrated = command("migrate")
    assert 0 == migrated.code
    assert "synchronous_commit is off" in migrated.err
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in migrated.err
