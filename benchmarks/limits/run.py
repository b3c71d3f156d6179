"""One run of one case: from an empty database to its figures."""

from __future__ import annotations

import time

import psutil

from limits import figures
from limits.cases import Case
from limits.stand import Stand, stand, wait_until


def run(case: Case, *, seed: int, warmup_s: float, seconds: float) -> dict[str, float]:
    """The figures of a case. Takes a little more than `warmup_s + seconds`."""
    with stand(
        seed=seed, provider=case.provider, settings=case.settings, skews=case.skews
    ) as found:
        found.notes["limits"] = dict(case.provider["limits"])
        if case.is_set:
            found.tell_limits(case.model, case.provider["limits"])
        if case.before is not None:
            case.before(found)
        count = case.texts_for(max(warmup_s, case.least_warmup_s) + seconds)
        job = found.enqueue("docs", case.model, count, case.words)
        found.start_workers(case.workers)
        found.wait_for_workers()
        model = case.model.partition("/")[2]
        wait_until(lambda: model in found.provider.account()["models"])
        time.sleep(max(warmup_s, case.least_warmup_s))
        _measure(found, case, model, seconds)
        if not case.to_the_end:
            if job.status.finished:
                raise RuntimeError("the job was finished before the time was over")
            if case.after is not None:
                case.after(found)
            job.cancel()
            wait_until(lambda: not any(queue.leased for queue in found.fleet.queues()))
        elif not job.wait(timeout_s=20 * 60).finished:
            raise RuntimeError("the job did not finish")
        found.end_workers()
        found.figures |= figures.of_the_end(found, model, to_the_end=case.to_the_end)
        found.figures["repeated_beyond_in_flight"] = found.figures[
            "paid_twice"
        ] - found.figures.get("texts_in_flight", 0)
        return found.figures


def _measure(found: Stand, case: Case, model: str, seconds: float) -> None:
    """Let the time pass, with its events, and read the provider's account at its two ends."""
    before = found.provider.reset_account()
    found.notes["log_sizes"] = {log: log.stat().st_size for log in found.logs}
    psutil.cpu_percent()
    started = time.monotonic()
    for share, event in case.events:
        time.sleep(max(0.0, started + share * seconds - time.monotonic()))
        event(found)
    time.sleep(max(0.0, started + seconds - time.monotonic()))
    account = found.provider.account()
    # Near 1, the cores and not the limits decide, or somebody else's work is in the way.
    found.figures["machine_busy"] = psutil.cpu_percent() / 100
    span_s = account["now_s"] - before["now_s"]
    found.figures |= figures.of_account(account, model, span_s, case.limits)
