"""A ring as it stands in Redis: it says that a queue has work, whatever else is written on it.

Who may write to Redis can put anything there. So nothing of an entry goes on but the fact that it
is a ring: the message that Celery gets is made here anew, and the queue is the one it lay in.
"""

from __future__ import annotations

import base64
import json
from uuid import uuid4

from embedfleet_schema.types import QUEUES

TASK = "embedfleet.embed"
# Ours take a third of it.
MOST_BYTES = 4_096


def ring_of(entry: bytes, queue: str) -> bytes | None:
    """The message that an entry of a queue stands for; None where it is no ring of ours."""
    if queue not in QUEUES or len(entry) > MOST_BYTES or not _is_ring(entry):
        return None
    name = str(uuid4())
    body = json.dumps([[queue], {}, {}]).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": TASK, "id": name, "root_id": name},
        "properties": {
            "correlation_id": name,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": name,
        },
    }
    return json.dumps(message).encode()


def _is_ring(entry: bytes) -> bool:
    try:
        message = json.loads(entry)
        return bool(message["headers"]["task"] == TASK)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
