"""A worker that is killed between sending a webhook and noting it: another sends it again."""

import embedfleet as ef
from plugins.fleets import ask
from plugins.webhook_receivers import SECRET
from plugins.worker_processes import eventually


def test_a_killed_workers_webhook_is_sent_again_with_the_same_id(local, worker_process, receiver):
    hook = receiver()
    settings = {"webhook_secret": SECRET, "webhook_private": "true"}
    first = worker_process(failpoints="after_webhook=kill", **settings)
    docs = local.collection("docs", model="fake/16")
    job = docs.enqueue([ef.Document("a", "text")], webhook=hook.url)
    first.process.wait(60)
    assert (1, "retrying") == (len(hook.received), job.webhook.state)
    # As if the minute was over after which its sender counts as lost.
    ask(local, "UPDATE embedfleet.webhook SET due_at = now()")
    worker_process(**settings)
    eventually(lambda: job.webhook.state == "delivered")
    first_id, second_id = (each.headers["webhook-id"] for each in hook.received)
    assert first_id == second_id
    assert all(each.is_signed for each in hook.received)
