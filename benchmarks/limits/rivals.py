"""The same run without our limiter: the official client's own retries, and Celery's rate_limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from _scratch import scratch_fleet
from limits import figures
from limits.cases import CASES
from plugins.provider_server.process import ProviderServer

BENCHMARKS = Path(__file__).parents[1]
PROCESSES = 4
THREADS = 8
# The requests of R1: a hundredth of the quota of a minute.
TEXTS = 30
WORDS = 100
MODEL = "bench-model"


def both(warmup_s: float, seconds: float) -> Mapping[str, list[dict[str, float]]]:
    return {
        "R15 SDK retries": [_measured(_sdk, warmup_s, seconds)],
        "R15 Celery rate_limit": [_measured(_celery, warmup_s, seconds)],
    }


def script(name: str) -> None:
    """A case that is a benchmark of its own."""
    subprocess.run([sys.executable, BENCHMARKS / name], check=True)


Start = Callable[[ProviderServer, str], list[subprocess.Popen[bytes]]]


def _measured(start: Start, warmup_s: float, seconds: float) -> dict[str, float]:
    case = CASES["R1"]
    server = ProviderServer(**case.provider)
    with scratch_fleet() as fleet:
        processes = start(server, fleet.settings.redis)
        while MODEL not in server.account()["models"]:
            time.sleep(0.1)
        time.sleep(warmup_s)
        before = server.reset_account()
        time.sleep(seconds)
        account = server.account()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        given_up = sum(_given_up(process) for process in processes)
    server.close()
    span_s = account["now_s"] - before["now_s"]
    found = figures.of_account(account, MODEL, span_s, case.limits)
    found["requests_given_up"] = given_up
    return found


def _given_up(process: subprocess.Popen[bytes]) -> int:
    """What the process prints at its end: requests that its retries did not save."""
    printed = process.communicate(timeout=120)[0]
    return int(json.loads(printed)["given_up"]) if printed else 0


def _sdk(server: ProviderServer, redis_url: str) -> list[subprocess.Popen[bytes]]:
    del redis_url
    return [
        subprocess.Popen(
            [sys.executable, "-m", "limits.sdk_rival", server.url, str(number)],
            stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]


def _celery(server: ProviderServer, redis_url: str) -> list[subprocess.Popen[bytes]]:
    per_worker = CASES["R1"].limit / (TEXTS * WORDS) / PROCESSES
    environment = {
        **os.environ,
        "RIVAL_BROKER": redis_url,
        "RIVAL_URL": server.url,
        "RIVAL_RATE": f"{per_worker:g}/m",
    }
    command = [sys.executable, "-m", "celery", "-A", "limits.celery_rival"]
    subprocess.run([sys.executable, "-m", "limits.celery_rival"], env=environment, check=True)
    worker = ["worker", "-P", "threads", "-c", str(THREADS), "-l", "ERROR", "--without-gossip"]
    return [
        subprocess.Popen(
            [*command, *worker, "-n", f"rival-{number}@%h"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(PROCESSES)
    ]
