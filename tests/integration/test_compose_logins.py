"""The script of the compose stack's first start, run by the real psql on a fresh database."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import embedfleet as ef
from embedfleet.exporter import page
from embedfleet.fleet import Fleet
from embedfleet.stack.wheels import postgres_programs
from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import ROLES, set_up_roles
from embedfleet_schema.settings import load_settings
from embedfleet_workers.runtime import Launch, Runtime
from plugins.documents import ROOT
from plugins.fleets import drain

SCRIPT = (ROOT / "deploy/postgres/10-embedfleet.sql").read_text()
SECRETS = (
    "database_password",
    "worker_database_password",
    "client_database_password",
    "monitor_database_password",
)
LOGINS = ("embedfleet", "worker", "client", "monitor")


@pytest.fixture
def logins(stack, tmp_path):
    """Names for this test of the logins, the first of which is the database's, too."""
    names = {login: f"{login}_{uuid4().hex[:12]}" for login in LOGINS}
    for secret in SECRETS:
        (tmp_path / secret).write_text(f"pw '{secret}\n")
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {names['embedfleet']}")
        yield names
        conn.execute(f"DROP DATABASE {names['embedfleet']} WITH (FORCE)")
        for role in (*ROLES, *names.values()):
            conn.execute(f"DROP ROLE IF EXISTS {role}")


def run(stack, logins: dict[str, str], secrets: Path) -> subprocess.CompletedProcess[str]:
    """The script, with the names of this test in it."""
    script = SCRIPT
    for login, name in logins.items():
        script = re.sub(rf"(?<![\w/-]){login}(?!\w)(?=[^\n]*[;'\]])", name, script)
    url = urlsplit(stack.database_url)._replace(path=f"/{logins['embedfleet']}").geturl()
    return subprocess.run(
        [postgres_programs() / "psql", "--no-psqlrc", url],
        input=script,
        env=os.environ | {"SECRETS": str(secrets)},
        capture_output=True,
        text=True,
        check=False,
    )


def url_of(stack, logins, login, secret):
    database = logins["embedfleet"]
    return make_conninfo(
        stack.database_url, dbname=database, user=logins[login], password=f"pw '{secret}"
    )


def urls(stack, logins):
    return [
        url_of(stack, logins, login, secret) for login, secret in zip(LOGINS, SECRETS, strict=True)
    ]


def work(owner, worker, client, monitor, redis_url):
    """Each side does what it is for, and cannot do what the others are for."""
    migrate(owner)
    set_up_roles(owner)
    with Fleet(load_settings(database_url=client, redis_url=redis_url)) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        docs.enqueue([ef.Document("a", "words")])
        runtime = Runtime(
            load_settings(database_url=worker, redis_url=redis_url), Launch(("cpu",), 1, 1)
        )
        runtime.start()
        assert ["done"] == drain(runtime)
        runtime.stop()
        assert ["a"] == [hit.document for hit in docs.search([1.0] * 16)]
        with pytest.raises(NotPermitted):
            docs.drop()
    with (
        Fleet(load_settings(database_url=worker, redis_url=redis_url)) as fleet,
        pytest.raises(NotPermitted),
    ):
        fleet.collection("docs").enqueue([ef.Document("b", "words")])
    told = page(load_settings(database_url=monitor, redis_url=redis_url))
    assert 'embedfleet_collection_vectors{collection="docs"} 1.0' in told
    with (
        Fleet(load_settings(database_url=monitor, redis_url=redis_url)) as fleet,
        pytest.raises(NotPermitted),
    ):
        fleet.collection("docs")


def test_each_login_does_what_its_side_does(stack, logins, tmp_path, redis_url):
    for _ in range(2):
        done = run(stack, logins, tmp_path)
        assert (0, False) == (done.returncode, "ERROR" in done.stderr)
    work(*urls(stack, logins), redis_url)


def test_a_volume_from_before_gets_what_it_lacks(stack, logins, tmp_path, redis_url):
    """It has one login, which owns the database and all tables."""
    name = logins["embedfleet"]
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw ''database_password'")
        conn.execute(f"ALTER DATABASE {name} OWNER TO {name}")
    with psycopg.connect(make_conninfo(stack.database_url, dbname=name), autocommit=True) as conn:
        conn.execute("CREATE EXTENSION vector")
    owner, *_ = urls(stack, logins)
    migrate(owner)
    with Fleet(load_settings(database_url=owner, redis_url=redis_url)) as fleet:
        fleet.collection("docs", model="fake/16")
    assert 0 == run(stack, logins, tmp_path).returncode
    work(*urls(stack, logins), redis_url)


@pytest.mark.parametrize("secret", SECRETS)
def test_an_empty_password_makes_nothing(stack, logins, tmp_path, secret):
    (tmp_path / secret).write_text("")
    done = run(stack, logins, tmp_path)
    assert 3 == done.returncode
    assert "a database password is empty: see deploy/secrets/README.md" in done.stderr
    with psycopg.connect(stack.database_url) as conn:
        made = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
        assert [] == conn.execute(made, (list(logins.values()),)).fetchall()
