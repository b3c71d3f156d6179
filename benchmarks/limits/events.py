"""What happens in the middle of a run, and the figures that it leaves behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from limits.stand import MODEL, Stand, wait_until

BAD_KEY = "a-key-that-is-refused"
BAD_MODEL = "mistral/other-model"
DEADLINE_S = 10.0

OF_THE_DEAD = """
SELECT sha256(convert_to(t.content, 'UTF8')) FROM embedfleet.batch AS b
JOIN embedfleet.worker AS w ON w.id = b.owner
JOIN embedfleet.{texts} AS t ON t.id = ANY (b.texts)
WHERE b.state = 'leased' AND w.pid = ANY (%s)
"""
STORED = """
SELECT sha256(convert_to(t.content, 'UTF8'))
FROM embedfleet.{vectors} AS v
JOIN embedfleet.{texts} AS t ON t.id = v.text_id
"""


def halve_limits(stand: Stand) -> None:
    limits = {name: limit / 2 for name, limit in stand.notes["limits"].items()}
    account = stand.provider.set(limits=limits)
    stand.notes["halved"] = account["now_s"], limits


def after_halving(stand: Stand) -> None:
    """The minute after the change, second by second, from the provider's account."""
    at, limits = stand.notes["halved"]
    account = stand.provider.account()
    seconds = account["models"][MODEL.partition("/")[2]]["seconds"]
    minute = [row for row in seconds if at <= row[0] < at + 60]
    admitted, limited = sum(row[1] for row in minute), sum(row[3] for row in minute)
    stand.figures["limited_share_after"] = limited / max(1, admitted + limited)
    settled = [row for row in seconds if row[0] >= at + 30]
    span = account["now_s"] - (at + 30)
    stand.figures["used_from_30_s_on"] = (
        sum(row[2] for row in settled) / (limits["tokens"] / 60 * span) if span > 5 else 0.0
    )


def kill_two(stand: Stand) -> None:
    """Kill -9 two workers, with two new ones in their place, and count what they had under way."""
    victims = stand.random.sample(stand.workers, 2)
    for victim in victims:
        os.killpg(victim.pid, signal.SIGSTOP)
    # What was written to a socket before they stopped is admitted by now, and what was answered
    # before they stopped cannot be stored any more.
    time.sleep(0.5)
    info = stand.fleet.collection("docs").info
    tables = {"texts": info.texts, "vectors": info.vectors}
    of_the_dead = OF_THE_DEAD.format(**tables)
    held = {bytes(row[0]) for row in stand.ask(of_the_dead, [each.pid for each in victims])}
    stored = {bytes(row[0]) for row in stand.ask(STORED.format(**tables))}
    requests, texts = stand.provider.paid(held - stored)
    for name, more in (("requests_in_flight", requests), ("texts_in_flight", texts)):
        stand.figures[name] = stand.figures.get(name, 0) + more
    for victim in victims:
        victim.kill()
        stand.workers.remove(victim)
    stand.start_workers(2)


def empty_valkey(stand: Stand) -> None:
    stand.restart_valkey_empty()


def exhaust_account(stand: Stand) -> None:
    before = stand.provider.set(stopped="insufficient_quota")
    wait_until(lambda: paused(stand))
    time.sleep(max(0.0, 5.0 - (stand.provider.account()["now_s"] - before["now_s"])))
    after = stand.provider.account()
    model = MODEL.partition("/")[2]
    further = after["models"][model]["received"] - before["models"][model]["received"]
    stand.figures["calls_beyond_in_flight"] = further - before["in_flight"]
    stand.figures["stopped_after_s"] = after["last_received_s"] - before["now_s"]


def paused(stand: Stand) -> bool:
    return stand.ask("SELECT paused_at FROM embedfleet.space WHERE paused_at IS NOT NULL") != []


def refill_account(stand: Stand) -> None:
    stand.provider.set(stopped="")
    stand.fleet.resume(MODEL)


def start_bad_space(stand: Stand) -> None:
    """Batches of a space whose key is refused, at the head of the queue."""
    stand.notes["bad"] = stand.enqueue("refused", BAD_MODEL, 2_000, (100,))


def after_bad_space(stand: Stand) -> None:
    bad = stand.provider.account()["models"].get(BAD_MODEL.partition("/")[2], {})
    stand.figures["other_calls"] = bad.get("received", 0)
    stand.figures["other_answers"] = bad.get("answered", 0)
    stand.notes["bad"].cancel()


def fault(**shares: float) -> Callable[[Stand], None]:
    def begin(stand: Stand) -> None:
        stand.provider.set(faults=shares)

    return begin


FAULTS = (
    fault(limited=1.0),
    fault(error=0.3),
    fault(stall=0.1),
    fault(reset=0.2),
    fault(drip=0.1),
    fault(truncated=0.2),
    fault(html=0.2),
    fault(floats=1.0),
    fault(quarter=0.2),
    fault(),
)
