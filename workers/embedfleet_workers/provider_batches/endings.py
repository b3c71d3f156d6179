"""What becomes of a provider batch that was refused, lost or given up as a whole."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from http import HTTPStatus

from embedfleet_schema.database import Database
from embedfleet_schema.store import provider_batches
from embedfleet_schema.store.provider_batches import NO_ROOM, GivenBack, ProviderBatch
from embedfleet_workers.embedders.api.providers.adapter import Faulty, RateLimited, Reply
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.provider_batches.batch_api import Fault, NotDone
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# After a fault of the provider, and after each refusal for want of room, twice as long each time.
RETRY_S = 120.0
LONGEST_WAIT_S = 3_600.0

_NO_ROOM = re.compile(r"(?:token|request)_limit_exceeded")
# As in: Enqueued token limit reached for (model), limit 3,000,000 enqueued tokens.
_ENQUEUED = re.compile(r"enqueued (?:token|request) limit|limit: [\d,.]+ enqueued", re.IGNORECASE)
_LIMIT = re.compile(r"limit: ([\d,]+) enqueued tokens", re.IGNORECASE)


def refused(db: Database, provider_batch: ProviderBatch, error: NotDone) -> GivenBack:
    """The provider did not take it."""
    if _is_want_of_room(error.fault):
        return _no_room(db, provider_batch, error.fault)
    return _by_reply(db, provider_batch, error.reply, error.fault.code, error.reason)


def failed(db: Database, provider_batch: ProviderBatch, faults: Sequence[Fault]) -> GivenBack:
    """The provider took it and then refused it."""
    for fault in faults:
        if _is_want_of_room(fault):
            return _no_room(db, provider_batch, fault)
    code = next((fault.code for fault in faults if fault.code), "failed")
    reply = error_reply(HTTPStatus.BAD_REQUEST, {}, json.dumps({"error": {"code": code}}).encode())
    return _by_reply(db, provider_batch, reply, code, f"it gave the batch up ({code})")


def to_workers(
    db: Database, provider_batch: ProviderBatch, code: str, reason: str, *, answered: bool = False
) -> GivenBack:
    """Whatever it was, the workers of the collections see to the texts.

    `answered`: there may be answers, which are paid for and cannot be fetched.
    """
    log.warning("provider batch %d: %s; its texts go to the workers", provider_batch.id, reason)
    told = _told(reason)
    return provider_batches.give_up(
        db, provider_batch, code=code, reason=told, to_workers=True, answered=answered
    )


def _by_reply(
    db: Database, provider_batch: ProviderBatch, reply: Reply, code: str, reason: str
) -> GivenBack:
    match reply:
        case Stop(whole_account=True) as stop:
            log.warning(
                "provider batch %d: %s; its model is paused", provider_batch.id, stop.reason
            )
            # First the pause: who dies in between asks again, is refused again, and ends it.
            provider_batches.pause(db, provider_batch.space_id, stop.code, stop.reason)
            return provider_batches.give_up(db, provider_batch, code=stop.code, reason=stop.reason)
        case RateLimited(retry_after_s):
            wait_s = min(max(retry_after_s or 0.0, RETRY_S), LONGEST_WAIT_S)
            return provider_batches.give_up(
                db, provider_batch, code=code, reason=_told(reason), delay_s=wait_s
            )
        case Faulty():
            return provider_batches.give_up(
                db, provider_batch, code=code, reason=_told(reason), delay_s=RETRY_S
            )
        case _:
            return to_workers(db, provider_batch, code, reason)


def _no_room(db: Database, provider_batch: ProviderBatch, fault: Fault) -> GivenBack:
    """It is filed again when others are through, in parts that fit: what the provider says, or half
    of what was tried.
    """
    refusals = provider_batches.refusals_in_a_row(db, provider_batch.space_id)
    wait_s = min(RETRY_S * 2.0 ** min(refusals, 10), LONGEST_WAIT_S)
    said = _LIMIT.search(fault.message)
    if said is not None:
        limit = int(said[1].replace(",", ""))
        known = f"it lets {limit:,} tokens wait"
    else:
        limit = provider_batches.waiting_tokens(db, provider_batch.space_id) // 2
        known = "it does not say how much it takes"
    reason = f"the batch API has no room ({fault.code}: {known}), filed again after {wait_s:.0f} s"
    log.warning("provider batch %d: %s", provider_batch.id, reason)
    return provider_batches.give_up(
        db, provider_batch, code=NO_ROOM, reason=reason, delay_s=wait_s, token_limit=max(limit, 1)
    )


def _is_want_of_room(fault: Fault) -> bool:
    return bool(_NO_ROOM.fullmatch(fault.code) or _ENQUEUED.search(fault.message))


def _told(reason: str) -> str:
    return f"the batch API: {reason}"
