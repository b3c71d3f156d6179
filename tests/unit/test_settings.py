import json

import pytest

from embedfleet_schema.database import redacted
from embedfleet_schema.errors import BadSettings, NotConfigured
from embedfleet_schema.settings import STACK_FILE, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in (
        "EMBEDFLEET_DATABASE_URL",
        "DATABASE_URL",
        "EMBEDFLEET_REDIS_URL",
        "REDIS_URL",
        "CELERY_BROKER_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMBEDFLEET_DATA", str(tmp_path))


def test_our_own_name_wins_over_the_usual_one(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://usual/db")
    assert "postgresql://usual/db" == load_settings().database
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", "postgresql://ours/db")
    assert "postgresql://ours/db" == load_settings().database


def test_the_broker_is_found_under_three_names(monkeypatch):
    for name in ("CELERY_BROKER_URL", "REDIS_URL", "EMBEDFLEET_REDIS_URL"):
        monkeypatch.setenv(name, f"redis://{name.lower()}/0")
        assert f"redis://{name.lower()}/0" == load_settings().redis


def test_without_any_url_the_embedded_stack_is_used(tmp_path):
    with pytest.raises(NotConfigured, match="embedfleet up"):
        _ = load_settings().database
    (tmp_path / STACK_FILE).write_text(json.dumps({"database_url": "a", "redis_url": "b"}))
    settings = load_settings()
    assert ("a", "b", True) == (settings.database, settings.redis, settings.uses_embedded_stack)


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql+psycopg://h/d", "postgresql://h/d"])
def test_urls_of_other_libraries_are_understood(url):
    assert "postgresql://h/d" == load_settings(database_url=url).database


def test_a_bad_value_is_named_and_no_secret_is_shown(monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_LEASE_SECONDS", "soon")
    with pytest.raises(BadSettings, match="lease_seconds"):
        load_settings(database_url="postgresql://u:hunter2@h/d")
    settings = load_settings(database_url="postgresql://u:hunter2@h/d", lease_seconds=5)
    assert "hunter2" not in repr(settings)


def test_a_damaged_stack_file_is_named(tmp_path):
    (tmp_path / STACK_FILE).write_text("{")
    with pytest.raises(BadSettings, match=STACK_FILE):
        _ = load_settings().database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h:5433/d", "h:5433/d"),
        ("host=h dbname=d password=hunter2", "h:5432/d"),
        ("mysql://u:hunter2@h/d", "(not a PostgreSQL URL)"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert shown == redacted(url)
