"""Keys by the command line, and the console as a process."""

import json
import os
import signal
import stat
import subprocess
import sys

import httpx2
import pytest

from embedfleet.api_keys import digest
from plugins.fleets import ask


def test_a_key_is_shown_once_and_stored_as_a_hash(fleet, docs, command):
    made = command(
        "key", "create", "website", "--scope", "search", "--scope", "documents",
        "--collection", "docs", "--expires", "90d", "--rate", "60",
    )  # fmt: skip
    assert 0 == made.code, made.err
    key = made.out.strip()
    assert "shown this once" in made.err
    assert [(digest(key), ["search", "documents"], ["docs"], 60)] == ask(
        fleet, "SELECT sha256, scopes, collections, per_minute FROM embedfleet.api_key"
    )
    shown = command("key", "list")
    assert "website" in shown.out
    assert key not in shown.out
    assert "active" in shown.out
    assert 0 == command("key", "revoke", "website").code
    (listed,) = json.loads(command("key", "list", "--json").out)
    assert listed["revoked_at"] is not None
    again = command("key", "create", "website", "--scope", "search")
    assert (2, True) == (again.code, "Choose another name" in again.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scope", "admin"), "not admin"),
        (("--scope", "search", "--collection", "nowhere"), "no collection 'nowhere'"),
        (("--scope", "search", "--expires", "soon"), "90d, 12h or 30m"),
        ((), "scope"),
    ],
)
def test_a_key_that_cannot_be_made_is_one_line(command, words, said):
    found = command("key", "create", "website", *words)
    assert (2, True) == (found.code, said in found.err), found.err


def test_a_key_that_is_not_there_is_not_revoked(command):
    found = command("key", "revoke", "nobody")
    assert (2, True) == (found.code, "embedfleet key list" in found.err)


def test_the_console_says_where_its_token_is_and_ends_at_ctrl_c(fleet, tmp_path):
    token = tmp_path / "token"
    variables = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    command = [sys.executable, "-m", "embedfleet", "console", "--port", "0"]
    running = subprocess.Popen(
        [*command, "--token-file", str(token)],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = running.stdout.readline().split()[0]
    assert 0o600 == stat.S_IMODE(token.stat().st_mode)
    secret = token.read_text().strip()
    assert {"status": "ok"} == httpx2.get(f"{url}/healthz", timeout=120).json()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert 0 == running.returncode, err
    assert str(token) in err
    assert secret not in out + err
    assert not token.exists()


def test_the_console_listens_to_other_machines_over_tls_only(command):
    found = command("console", "--host", "0.0.0.0")  # noqa: S104
    assert (2, True) == (found.code, "unencrypted" in found.err)
