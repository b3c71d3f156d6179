"""When a job has ended, a URL is told: signed, at least once, and nothing of the texts."""

import contextlib
import socket
import threading

import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadWebhook, FailpointHit
from embedfleet_schema.store import webhooks
from embedfleet_workers.webhooks.post import NotSent, post
from embedfleet_workers.webhooks.sender import MOST_ATTEMPTS, UNSIGNED, WebhookSender
from plugins.fleets import ask, drain
from plugins.webhook_receivers import SECRET


@pytest.fixture
def sender(fleet):
    """Makes the part of a worker that sends, to be driven by hand."""
    made = []

    def make(secret=SECRET, **more):
        options = {name: more.pop(name) for name in ("lease_s", "timeout_s") if name in more}
        settings = {"webhook_private": True} | more
        read = type(fleet.settings)(
            database_url=fleet.settings.database, webhook_secret=secret, **settings
        )
        made.append(WebhookSender(read, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def enqueue(fleet, url, key="a", text="A secret text."):
    docs = fleet.collection("docs", model="fake/16")
    return docs.enqueue([ef.Document(key, text, {"name": "hidden"})], webhook=url)


def due_now(fleet):
    ask(fleet, "UPDATE embedfleet.webhook SET due_at = now()")


def test_a_receiver_that_fails_twice_is_told_a_third_time_with_the_same_id(
    local, worker, sender, receiver
):
    hook = receiver(500, 503)
    job = enqueue(local, hook.url)
    mine = sender()
    assert not mine.send_one()
    assert ("waiting", 0) == (job.webhook.state, job.webhook.attempts)
    drain(worker())
    for state in ("retrying", "retrying", "delivered"):
        assert mine.send_one()
        assert state == job.webhook.state
        assert not mine.send_one()
        due_now(local)
    assert not mine.send_one()
    first, *others = hook.received
    assert [first.headers["webhook-id"]] * 2 == [each.headers["webhook-id"] for each in others]
    assert all(each.is_signed for each in hook.received)
    assert (3, None) == (job.webhook.attempts, job.webhook.reason)
    assert "/hook?token=t0k3n" == first.path


def test_the_body_has_the_counts_and_nothing_of_the_texts(local, worker, sender, receiver):
    hook = receiver()
    job = enqueue(local, hook.url)
    drain(worker())
    assert sender().send_one()
    (got,) = hook.received
    counts = {"documents": 1, "unchanged": 0, "rejected": 0, "chunks": 1, "reused": 0}
    assert {
        "job": job.id,
        "kind": "enqueue",
        "collection": "docs",
        "state": "done",
        "embedded": 1,
        "failed": 0,
        **counts,
    } == got.json["data"]
    assert "job.done" == got.json["type"]
    assert got.headers["webhook-timestamp"] == str(got.json["timestamp"])
    for word in (b"secret", b"hidden"):
        assert word not in got.body


def test_a_job_that_is_cancelled_or_has_nothing_to_do_has_ended_too(local, sender, receiver):
    hook = receiver()
    enqueue(local, hook.url).cancel()
    assert sender().send_one()
    assert "job.cancelled" == hook.received[0].json["type"]
    docs = local.collection("docs")
    docs.enqueue([], webhook=hook.url)
    assert sender().send_one()
    assert "job.done" == hook.received[1].json["type"]


def test_a_source_that_raises_ends_as_interrupted(local, worker, sender, receiver):
    hook = receiver()

    def source():
        yield ef.Document("a", "text")
        raise RuntimeError

    docs = local.collection("docs", model="fake/16")
    with pytest.raises(RuntimeError):
        docs.enqueue(source(), webhook=hook.url)
    assert not sender().send_one()
    drain(worker())
    assert sender().send_one()
    assert "job.interrupted" == hook.received[0].json["type"]


def test_who_dies_before_it_is_noted_is_followed_by_another_who_sends_the_same_id(
    local, worker, sender, receiver
):
    hook = receiver()
    job = enqueue(local, hook.url)
    drain(worker())
    with pytest.raises(FailpointHit):
        sender(failpoints="after_webhook=raise").send_one()
    other = sender()
    assert not other.send_one()
    due_now(local)
    assert other.send_one()
    first, second = (each.headers["webhook-id"] for each in hook.received)
    assert first == second
    assert ("delivered", 2) == (job.webhook.state, job.webhook.attempts)


def test_two_workers_do_not_send_at_once(local, worker, sender, receiver):
    hook = receiver()
    hook.ready.clear()
    enqueue(local, hook.url)
    drain(worker())
    first = threading.Thread(target=sender().send_one)
    first.start()
    while not hook.received:
        pass
    assert not sender().send_one()
    hook.ready.set()
    first.join()
    assert 1 == len(hook.received)


def test_a_late_attempt_does_not_undo_a_delivery(local, worker, sender, receiver):
    hook = receiver()
    job = enqueue(local, hook.url)
    drain(worker())
    late = webhooks.claim(local.db, lease_s=0)
    assert sender().send_one()
    webhooks.fail(local.db, late, "late", wait_s=0, is_last=True)
    assert ("delivered", None) == (job.webhook.state, job.webhook.reason)


def test_it_is_given_up_after_the_last_attempt_or_if_the_receiver_is_gone(
    local, worker, sender, receiver
):
    hook = receiver(500, 410)
    job = enqueue(local, hook.url)
    drain(worker())
    mine = sender()
    ask(local, "UPDATE embedfleet.webhook SET attempts = %s", MOST_ATTEMPTS - 1)
    assert mine.send_one()
    assert ("failed", "it was answered with 500") == (job.webhook.state, job.webhook.reason)
    other = enqueue(local, hook.url, "b", "another")
    drain(worker())
    assert mine.send_one()
    assert ("failed", 1) == (other.webhook.state, other.webhook.attempts)
    due_now(local)
    assert not mine.send_one()


def test_a_redirect_is_not_followed(local, worker, sender, receiver):
    hook = receiver(307)
    job = enqueue(local, hook.url)
    drain(worker())
    assert sender().send_one()
    assert ("retrying", "it was answered with 307") == (job.webhook.state, job.webhook.reason)
    assert ["/hook?token=t0k3n"] == [each.path for each in hook.received]


def test_a_receiver_that_does_not_answer_is_not_waited_for(local, worker, sender, receiver):
    hook = receiver()
    hook.ready.clear()
    job = enqueue(local, hook.url)
    drain(worker())
    assert sender(timeout_s=0.2).send_one()
    assert "localhost did not answer within 0.2 s" == job.webhook.reason


def test_a_receiver_that_answers_byte_by_byte_is_cut_off():
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    client.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(NotSent, match=r"did not answer within 0\.3 s"):
            post(url, b"", {}, private=True, timeout_s=0.3)
        ended.set()
        thread.join()


def test_a_worker_does_not_go_where_only_its_producer_may(local, worker, sender, receiver):
    hook = receiver()
    job = enqueue(local, hook.url)
    drain(worker())
    assert sender(webhook_private=False).send_one()
    assert [] == hook.received
    assert "EMBEDFLEET_WEBHOOK_PRIVATE" in job.webhook.reason


def test_a_name_that_leads_into_a_private_network_is_not_connected_to(listener, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", listener.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotSent, match=r"rebound\.example is in a private network"):
        post(f"https://rebound.example:{listener.port}/", b"", {}, private=False)
    assert [] == listener.heard


def test_the_certificate_has_to_be_valid_for_the_name(authority, receiver, monkeypatch):
    good, bad = (
        receiver(context=authority.context("localhost")),
        receiver(context=authority.context("other.example")),
    )
    with pytest.raises(NotSent, match="the certificate of localhost is not valid"):
        post(good.url, b"", {}, private=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert 204 == post(good.url, b"{}", {}, private=True)
    with pytest.raises(NotSent, match="the certificate of localhost is not valid"):
        post(bad.url, b"", {}, private=True)
    assert [1, 0] == [len(good.received), len(bad.received)]


def test_where_no_worker_can_sign_it_is_said(local, worker, sender, receiver):
    hook = receiver()
    job = enqueue(local, hook.url)
    drain(worker())
    assert not sender(secret=None).send_one()
    assert ("waiting", UNSIGNED) == (job.webhook.state, job.webhook.reason)
    assert sender().send_one()
    assert "delivered" == job.webhook.state


def test_a_url_that_may_not_be_used_is_refused_and_nothing_is_stored(fleet):
    docs = fleet.collection("docs", model="fake/16")
    for url in ("http://example.com/", "https://10.0.0.1/", "nonsense"):
        with pytest.raises(BadWebhook):
            docs.enqueue([ef.Document("a", "text")], webhook=url)
    assert ([], []) == (fleet.jobs(), list(docs.documents()))


def test_the_webhook_goes_with_its_job(local, receiver):
    enqueue(local, receiver().url)
    ask(local, "DELETE FROM embedfleet.batch")
    ask(local, "DELETE FROM embedfleet.job")
    assert [] == ask(local, "SELECT 1 FROM embedfleet.webhook")


def test_the_command_takes_a_url_and_shows_what_became_of_it(
    command, fleet, worker, sender, receiver, folder, monkeypatch
):
    monkeypatch.setenv("EMBEDFLEET_WEBHOOK_PRIVATE", "true")
    hook = receiver(500)
    words = ("enqueue", "docs", folder, "--model", "fake/16", "--webhook", hook.url)
    assert 0 == command(*words).code
    drain(worker())
    assert sender().send_one()
    (job,) = fleet.jobs()
    shown = command("status", job.id)
    assert "webhook to localhost: retrying, 1 attempt: it was answered with 500" in shown.out
    assert "t0k3n" not in shown.out
    told = command("status", job.id, "--json").json["webhook"]
    assert ("retrying", 1, "localhost") == (told["state"], told["attempts"], told["host"])
    assert None is command("status", enqueue(fleet, None).id, "--json").json["webhook"]
