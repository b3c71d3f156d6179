"""What Flower takes from our application: the URL with its password, and how TLS is checked."""

import pytest

from embedfleet_schema.broker import celery_app


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("redis://u:p%40ss@h:1/2", "redis://u:p%40ss@h:1/2"),
        ("valkeys://:p@h/0", "rediss://:p@h:6379/0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("sentinel://:p@a:1/0?master_name=m", "sentinel://:p@a:1/0?master_name=m"),
    ],
)
def test_flower_gets_a_url_that_it_can_use(url, asked):
    app = celery_app(url, socket_timeout_s=1.0)
    assert asked == app.connection().as_uri(include_password=True)
    assert "embedfleet:" == app.conf.broker_transport_options["global_keyprefix"]


def test_flower_checks_certificates_as_we_do():
    app = celery_app("rediss://h/0?ssl_ca_certs=ca.pem", socket_timeout_s=1.0)
    assert ("required", "ca.pem", True) == (
        app.conf.broker_use_ssl["ssl_cert_reqs"],
        app.conf.broker_use_ssl["ssl_ca_certs"],
        app.conf.broker_use_ssl["ssl_check_hostname"],
    )


def test_a_url_that_only_celery_reads_changes_nothing(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "sentinel://evil:1;redis+socket:///evil")
    connection = celery_app("redis://h/0", socket_timeout_s=1.0).connection()
    assert "redis://h:6379/0" == connection.as_uri() == connection.clone().as_uri()
