import json

import pytest

from embedfleet.connections import Connections
from embedfleet_schema.addresses import redacted
from embedfleet_schema.errors import BadSettings, NotConfigured
from embedfleet_schema.settings import Settings, load_settings
from embedfleet_schema.stack_file import STACK_FILE


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
    urls = ("postgresql://h/d", "redis://h/0")
    write_stack(tmp_path, *urls)
    settings = load_settings()
    assert (*urls, True) == (settings.database, settings.redis, settings.uses_embedded_stack)


def write_stack(folder, database_url, redis_url):
    found = {"database_url": database_url, "redis_url": redis_url}
    (folder / STACK_FILE).write_text(json.dumps(found))


def test_urls_of_the_stack_file_are_read_as_carefully(tmp_path):
    write_stack(tmp_path, "postgresql://u:hun@ter2@h/d", "redis://:hun/ter2@h/0")
    settings = load_settings()
    for read in (lambda: settings.database, lambda: settings.redis):
        with pytest.raises(BadSettings, match=f"{STACK_FILE}: a password") as raised:
            read()
        assert "ter2" not in str(raised.value)


def test_nothing_is_opened_where_the_broker_cannot_be_read(tmp_path):
    write_stack(tmp_path, "postgresql://h/d", "amqp://h")
    with pytest.raises(BadSettings, match=STACK_FILE):
        Connections(load_settings())


@pytest.mark.parametrize("name", ["EMBEDFLEET_REDIS_URL", "REDIS_URL", "CELERY_BROKER_URL"])
@pytest.mark.parametrize("url", ["amqp://h", "redis://h/x", "rediss://h?ssl_cert_reqs=never", "h"])
def test_a_broker_that_cannot_be_read_is_refused_at_once(monkeypatch, name, url):
    monkeypatch.setenv(name, url)
    with pytest.raises(BadSettings, match="REDIS_URL"):
        load_settings()


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql+psycopg://h/d", "postgresql://h/d"])
def test_urls_of_other_libraries_are_understood(url):
    assert "postgresql://h/d" == load_settings(database_url=url).database


def test_a_bad_value_is_named_and_no_secret_is_shown(monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_LEASE_SECONDS", "soon")
    with pytest.raises(BadSettings, match="lease_seconds"):
        load_settings(database_url="postgresql://u:hunter2@h/d")
    settings = load_settings(database_url="postgresql://u:hunter2@h/d", lease_seconds=50)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("given", [{"heartbeat_seconds": 31}, {"lease_seconds": 29}])
def test_a_lease_that_ends_before_two_heartbeats_is_refused(given):
    """Others would take what is being worked on."""
    with pytest.raises(BadSettings, match="heartbeat_seconds: must be at most half of lease_sec"):
        load_settings(**given)
    assert 30 == load_settings(heartbeat_seconds=30).heartbeat_seconds


def test_a_damaged_stack_file_is_named(tmp_path):
    (tmp_path / STACK_FILE).write_text("{")
    with pytest.raises(BadSettings, match=STACK_FILE):
        _ = load_settings().database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h:5433/d", "h:5433/d"),
        ("host=h dbname=d password=hunter2", "h:5432/d"),
        ("mysql://u:hunter2@h/d", "(an address that cannot be read)"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert shown == redacted(url)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    for name in ("OPENAI_API_VERSION", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PRICES"):
        monkeypatch.setenv(f"EMBEDFLEET_{name}", "")
    settings = load_settings()
    assert (None, None, None, {}) == (
        settings.openai_api_version,
        settings.openai_base_url,
        settings.openai_api_key,
        settings.prices,
    )


@pytest.mark.parametrize("key", ["\u201csk-secret\u201d", "sk-secret sk-other", "sk\x00secret"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key):
    with pytest.raises(BadSettings, match=r"openai_api_key: .*no API key has") as raised:
        load_settings(openai_api_key=key)
    assert "secret" not in str(raised.value)


def test_a_key_is_taken_without_the_line_end_of_its_file():
    settings = load_settings(openai_api_key="sk-secret\n")
    assert "sk-secret" == settings.openai_api_key.get_secret_value()


@pytest.mark.parametrize("url", ["api.openai.com/v1", "http://", "https://host:port/", "ftp://h"])
def test_an_address_that_cannot_be_called_is_refused(url):
    with pytest.raises(BadSettings, match="cohere_base_url"):
        load_settings(cohere_base_url=url)


FRACTIONS = [n for n, field in Settings.model_fields.items() if "float" in str(field.annotation)]


@pytest.mark.parametrize("name", FRACTIONS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_what_is_no_number_is_refused_by_every_setting(name, value):
    with pytest.raises(BadSettings, match=name):
        load_settings(**{name: value})


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf")])
def test_a_price_is_an_amount_of_money(price):
    with pytest.raises(BadSettings, match="prices"):
        load_settings(prices={"openai/m": price})


def test_a_former_name_still_works_and_names_the_new_one(monkeypatch, caplog):
    monkeypatch.setenv("EMBEDFLEET_LANE_SECONDS", "3")
    assert 3 == load_settings().provider_batch_seconds
    said = "EMBEDFLEET_LANE_SECONDS is deprecated: set EMBEDFLEET_PROVIDER_BATCH_SECONDS"
    assert [said] == caplog.messages
    monkeypatch.setenv("EMBEDFLEET_LANE_SECONDS", "no")
    with pytest.raises(BadSettings, match="provider_batch_seconds"):
        load_settings()


def test_a_name_of_today_wins_over_a_former_one(monkeypatch, caplog):
    monkeypatch.setenv("EMBEDFLEET_LANE_SECONDS", "3")
    monkeypatch.setenv("EMBEDFLEET_PROVIDER_BATCH_SECONDS", "4")
    assert 4 == load_settings().provider_batch_seconds
    assert 5 == load_settings(provider_batch_seconds=5).provider_batch_seconds
    assert [] == caplog.messages
    assert 6 == load_settings(lane_seconds=6).provider_batch_seconds
    assert 7 == load_settings(lane_seconds=6, provider_batch_seconds=7).provider_batch_seconds
    said = "the setting lane_seconds is deprecated: give provider_batch_seconds"
    assert [said, said] == caplog.messages
