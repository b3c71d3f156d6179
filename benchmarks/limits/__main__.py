"""Runs the cases and says of each whether it held: `python -m limits --case R1 R3 --official`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _scratch import machine
from limits import rivals
from limits.cases import CASES, Case
from limits.report import table, verdict
from limits.run import run

# Everything that can be asked for by name; the scripts are benchmarks of their own.
SCRIPTS = {"R13": "limiter_rate.py", "R14": "api_cpu.py"}
OFFICIAL = {"warmup": 60.0, "seconds": 180.0, "seeds": 3}
SHORT = {"warmup": 10.0, "seconds": 60.0, "seeds": 1}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="limits", description=__doc__)
    parser.add_argument("--case", nargs="*", default=list(CASES), metavar="R1")
    parser.add_argument("--warmup", type=float, help="seconds before the measurement begins")
    parser.add_argument("--seconds", type=float, help="seconds that are measured")
    parser.add_argument("--seeds", type=int, help="runs of each case; the worst one counts")
    parser.add_argument("--official", action="store_true", help="60 s, 180 s, 3 seeds")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    found = parser.parse_args()
    for name, value in (OFFICIAL if found.official else SHORT).items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    return found


def measured(case: Case, given: argparse.Namespace) -> list[dict[str, float]]:
    found = []
    for seed in range(1, given.seeds + 1):
        figures = run(case, seed=seed, warmup_s=given.warmup, seconds=given.seconds)
        print(f"{case.name} seed {seed}: {verdict(case, [figures])}", flush=True)
        found.append(figures)
    return found


def main() -> int:
    given = options()
    print(f"{machine()}; {given.warmup:g} s of warm-up, {given.seconds:g} s measured")
    results: list[dict[str, Any]] = []
    for name in given.case:
        if name in SCRIPTS:
            rivals.script(SCRIPTS[name])
            continue
        if name == "R15":
            runs = rivals.both(given.warmup, given.seconds)
        else:
            runs = {name: measured(CASES[name], given)}
        results += [{"case": label, "runs": figures} for label, figures in runs.items()]
    print(table(results))
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=2))
    failed = [
        each["case"]
        for each in results
        if each["case"] in CASES and not CASES[each["case"]].held(each["runs"])
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
