"""What becomes of a file that the provider refused, lost or gave up as a whole."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from http import HTTPStatus

from embedfleet_schema.database import Database
from embedfleet_schema.store import lane
from embedfleet_schema.store.lane import NO_ROOM, GivenBack, LaneFile
from embedfleet_workers.embedders.api.providers.adapter import Faulty, RateLimited, Reply
from embedfleet_workers.embedders.api.providers.error_replies import error_reply
from embedfleet_workers.lane.batch_api import Fault, NotDone
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# After a fault of the provider, and after each refusal for want of room, twice as long each time.
RETRY_S = 120.0
LONGEST_WAIT_S = 3_600.0

_NO_ROOM = re.compile(r"(?:token|request)_limit_exceeded")
# As in: Enqueued token limit reached for (model), limit 3,000,000 enqueued tokens.
_ENQUEUED = re.compile(r"enqueued (?:token|request) limit|limit: [\d,.]+ enqueued", re.IGNORECASE)
_LIMIT = re.compile(r"limit: ([\d,]+) enqueued tokens", re.IGNORECASE)


def refused(db: Database, file: LaneFile, error: NotDone) -> GivenBack:
    """The provider did not take the file."""
    if _is_want_of_room(error.fault):
        return _no_room(db, file, error.fault)
    return _by_reply(db, file, error.reply, error.fault.code, error.reason)


def failed(db: Database, file: LaneFile, faults: Sequence[Fault]) -> GivenBack:
    """The provider took the file and then refused it."""
    for fault in faults:
        if _is_want_of_room(fault):
            return _no_room(db, file, fault)
    code = next((fault.code for fault in faults if fault.code), "failed")
    reply = error_reply(HTTPStatus.BAD_REQUEST, {}, json.dumps({"error": {"code": code}}).encode())
    return _by_reply(db, file, reply, code, f"it gave the batch up ({code})")


def live(
    db: Database, file: LaneFile, code: str, reason: str, *, answered: bool = False
) -> GivenBack:
    """Whatever it was, the workers of the collections see to the texts.

    `answered`: there may be answers, which are paid for and cannot be fetched.
    """
    log.warning("lane file %d: %s; its texts go to the workers", file.id, reason)
    told = _told(reason)
    return lane.give_up(db, file, code=code, reason=told, live=True, answered=answered)


def _by_reply(db: Database, file: LaneFile, reply: Reply, code: str, reason: str) -> GivenBack:
    match reply:
        case Stop(whole_account=True) as stop:
            log.warning("lane file %d: %s; its model is paused", file.id, stop.reason)
            # First the pause: who dies in between asks again, is refused again, and ends the file.
            lane.pause(db, file.space_id, stop.code, stop.reason)
            return lane.give_up(db, file, code=stop.code, reason=stop.reason)
        case RateLimited(retry_after_s):
            wait_s = min(max(retry_after_s or 0.0, RETRY_S), LONGEST_WAIT_S)
            return lane.give_up(db, file, code=code, reason=_told(reason), delay_s=wait_s)
        case Faulty():
            return lane.give_up(db, file, code=code, reason=_told(reason), delay_s=RETRY_S)
        case _:
            return live(db, file, code, reason)


def _no_room(db: Database, file: LaneFile, fault: Fault) -> GivenBack:
    """It is filed again when others are through, in files that fit: what the provider says, or half
    of what was tried.
    """
    refusals = lane.refusals_in_a_row(db, file.space_id)
    wait_s = min(RETRY_S * 2.0 ** min(refusals, 10), LONGEST_WAIT_S)
    said = _LIMIT.search(fault.message)
    if said is not None:
        limit = int(said[1].replace(",", ""))
        known = f"it lets {limit:,} tokens wait"
    else:
        limit = lane.waiting_tokens(db, file.space_id) // 2
        known = "it does not say how much it takes"
    reason = f"the batch API has no room ({fault.code}: {known}), filed again after {wait_s:.0f} s"
    log.warning("lane file %d: %s", file.id, reason)
    return lane.give_up(
        db, file, code=NO_ROOM, reason=reason, delay_s=wait_s, token_limit=max(limit, 1)
    )


def _is_want_of_room(fault: Fault) -> bool:
    return bool(_NO_ROOM.fullmatch(fault.code) or _ENQUEUED.search(fault.message))


def _told(reason: str) -> str:
    return f"the batch API: {reason}"
