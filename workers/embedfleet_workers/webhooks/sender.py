"""The thread that sends webhooks: one attempt after the other, each noted when it is over."""

from __future__ import annotations

import json
import logging
import random
import threading
from http import HTTPStatus

from embedfleet_schema.database import Database
from embedfleet_schema.errors import EmbedfleetError, UnknownJob
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import jobs, webhooks
from embedfleet_schema.store.jobs import JobStatus
from embedfleet_schema.store.webhooks import Webhook
from embedfleet_workers.reasons import describe
from embedfleet_workers.webhooks.post import TIMEOUT_S, NotSent, post
from embedfleet_workers.webhooks.signature import keys_of, signed_headers

log = logging.getLogger(__name__)

# Who has taken one is given up after this: longer than an attempt takes.
LEASE_S = 4 * TIMEOUT_S
# 5 s, 20 s, 80 s, ... up to 6 hours: some 30 hours in all.
FIRST_WAIT_S, FACTOR, LONGEST_WAIT_S = 5.0, 4.0, 6 * 3_600.0
MOST_ATTEMPTS = 12
UNSIGNED = "no worker that saw it has EMBEDFLEET_WEBHOOK_SECRET"
# What a job's row says; nothing of its documents.
COUNTS = ("documents", "unchanged", "rejected", "chunks", "reused", "embedded", "failed")


class WebhookSender(threading.Thread):
    """Sends for as long as the worker runs. Several workers share the work."""

    def __init__(
        self, settings: Settings, *, lease_s: float = LEASE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        super().__init__(name="embedfleet-webhooks", daemon=True)
        secret = settings.webhook_secret
        self._keys = keys_of(secret.get_secret_value()) if secret is not None else []
        self._private = settings.webhook_private
        self._every_s = settings.sweep_seconds
        self._lease_s = lease_s
        self._timeout_s = timeout_s
        self._failpoints = Failpoints.parse(settings.failpoints)
        self._db = Database(
            settings.database, max_connections=1, lock_wait_s=settings.lock_wait_seconds
        )
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set() and self.send_one():
                    pass
            except Exception as error:  # noqa: BLE001 - nobody would start the thread again
                log.warning("webhooks are not sent: %s", describe(error))
            # Jitter keeps a fleet that started together from looking together.
            self._stopping.wait(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311

    def stop(self) -> None:
        """End soon. What is under way is sent again by another worker, as it is not noted."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        self._db.close()

    def send_one(self) -> bool:
        """Send what has been due for longest; False where nothing is."""
        if not self._keys:
            webhooks.note(self._db, UNSIGNED)
            return False
        webhook = webhooks.claim(self._db, lease_s=self._lease_s)
        if webhook is None:
            return False
        reason, is_final = self._sent(webhook)
        self._failpoints.hit("after_webhook")
        if reason is None:
            webhooks.deliver(self._db, webhook)
            return True
        log.warning("webhook of job %d, attempt %d: %s", webhook.job_id, webhook.attempt, reason)
        webhooks.fail(
            self._db,
            webhook,
            reason,
            wait_s=wait_after(webhook.attempt) * random.uniform(0.8, 1.2),  # noqa: S311
            is_last=is_final or webhook.attempt >= MOST_ATTEMPTS,
        )
        return True

    def _sent(self, webhook: Webhook) -> tuple[str | None, bool]:
        """Why it was not accepted, None where it was; and whether it never will be."""
        try:
            body = json.dumps(message(webhook, jobs.status(self._db, webhook.job_id))).encode()
            headers = signed_headers(str(webhook.id), webhook.timestamp, body, self._keys)
            headers |= {"content-type": "application/json", "user-agent": "embedfleet"}
            status = post(
                webhook.url, body, headers, private=self._private, timeout_s=self._timeout_s
            )
        except (NotSent, UnknownJob) as error:
            return str(error), False
        except EmbedfleetError as error:
            return describe(error), False
        if status // 100 == 2:  # noqa: PLR2004 - success
            return None, False
        return f"it was answered with {status}", status == HTTPStatus.GONE


def wait_after(attempt: int) -> float:
    """Seconds from an attempt that was not accepted to the next one."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * FACTOR ** min(attempt - 1, MOST_ATTEMPTS))


def message(webhook: Webhook, status: JobStatus) -> dict[str, object]:
    """What is said of a job that has ended."""
    data = {"job": status.id, "kind": status.kind, "collection": status.collection}
    counts = {name: getattr(status, name) for name in COUNTS}
    return {
        "type": f"job.{status.state}",
        "timestamp": webhook.timestamp,
        "data": data | {"state": status.state} | counts,
    }
