"""Celery's Redis transport, made to survive bytes on a queue that are no message.

kombu decodes what it pops without a guard: one entry that is not JSON, or not a message, ends the
worker. A doorbell carries nothing worth keeping, so such an entry is dropped and said so.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """Reads rings; drops what is none."""

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Its type only: the message may quote what somebody put there.
            log.error("dropped an entry that is no message: %s", type(error).__name__)  # noqa: TRY400
            return True


class Transport(redis.Transport):
    """The same connection with that channel."""

    Channel = Channel
