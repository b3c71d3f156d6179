"""Where a webhook may go, how it is signed, and how long it is tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.errors import BadSettings, BadWebhook
from embedfleet_schema.settings import load_settings
from embedfleet_schema.webhook_urls import check_webhook, is_public
from embedfleet_workers.webhooks import sender
from embedfleet_workers.webhooks.signature import keys_of, signed_headers
from plugins.webhook_receivers import SECRET

PRIVATE = [
    "https://localhost/x",
    "https://127.0.0.1",
    "https://10.0.0.1",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://intranet/",
    "https://redis.default.svc/",
    "http://example.com/",
]
NEVER = [
    "",
    "example.com",
    "ftp://example.com",
    "file:///etc/passwd",
    "https://",
    "https://user:pass0@example.com/",
    "https://example.com/a b",
    "https://example.com/\r\nx: y",
    "https://exämple.com/",
    "https://example.com:99999/",
    "https://[::1/",
    f"https://example.com/{'a' * 2_048}",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_what_is_private_is_refused_unless_it_is_allowed(url):
    with pytest.raises(BadWebhook, match="EMBEDFLEET_WEBHOOK_PRIVATE=true allows"):
        check_webhook(url, private=False)
    assert url.startswith(check_webhook(url, private=True).scheme)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("url", NEVER)
def test_what_is_no_url_is_always_refused(url, private):
    with pytest.raises(BadWebhook) as refused:
        check_webhook(url, private=private)
    assert "pass0" not in str(refused.value)


def test_a_public_url_is_taken():
    assert "example.com" == check_webhook("https://example.com:8443/a?b=c", private=False).hostname


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
    ],
)
def test_an_address_of_the_internet_is_public(address, public):
    assert public == is_public(address)


@given(st.text(max_size=60))
def test_no_text_makes_the_check_of_a_url_fail(url):
    try:
        parts = check_webhook(url, private=False)
    except BadWebhook:
        return
    assert "https" == parts.scheme


def test_the_signature_is_that_of_the_standard():
    """The example of its reference libraries."""
    number, at, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    headers = signed_headers(number, at, body, keys_of(SECRET))
    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]
    assert (number, str(at)) == (headers["webhook-id"], headers["webhook-timestamp"])


def test_each_secret_signs():
    both = signed_headers("a", 1, b"x", keys_of(f"{SECRET} whsec_{'A' * 32}"))
    alone = signed_headers("a", 1, b"x", keys_of(SECRET))
    first, second = both["webhook-signature"].split(" ")
    assert alone["webhook-signature"] == first != second


@pytest.mark.parametrize("secret", ["whsec_", "short", "whsec_!!!", f"{SECRET} x", f"{SECRET}é"])
def test_a_secret_that_cannot_sign_is_refused_without_being_shown(secret):
    with pytest.raises(BadSettings, match="webhook_secret: a secret is whsec_") as refused:
        load_settings(database_url="postgresql://h/d", webhook_secret=secret)
    assert SECRET not in str(refused.value)


def test_it_is_tried_for_more_than_a_day_and_never_after_more_than_six_hours():
    waits = [sender.wait_after(attempt) for attempt in range(1, sender.MOST_ATTEMPTS)]
    assert [5, 20, 80] == waits[:3]
    assert waits == sorted(waits)
    assert 24 * 3_600 < sum(waits) < 48 * 3_600
    assert 6 * 3_600 == max(waits)
    assert sender.LEASE_S > sender.TIMEOUT_S
