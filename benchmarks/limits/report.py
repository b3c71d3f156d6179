"""The figures of cases as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limits.cases import CASES, Bound, Case

COLUMNS = ("used", "limited_share", "longest_wait_s", "lost", "paid_twice")


def worst(bound: Bound, runs: Sequence[Mapping[str, float]]) -> str:
    """The bound beside the figure of the run that came nearest to breaking it."""
    values = [run.get(bound.name, float("nan")) for run in runs]
    shown = min(values) if bound.least is not None else max(values)
    if bound.least is not None and bound.most is not None and max(values) > bound.most:
        shown = max(values)
    mark = "" if all(bound.holds(run) for run in runs) else " BROKEN"
    return f"{bound}: {shown:.4g}{mark}"


def verdict(case: Case, runs: Sequence[Mapping[str, float]]) -> str:
    """PASS or FAIL, and each bound with its worst figure."""
    held = "PASS" if case.held(runs) else "FAIL"
    busy = max(run["machine_busy"] for run in runs)
    bounds = "; ".join(worst(bound, runs) for bound in case.bounds)
    return f"{held}  {bounds} (machine {busy:.0%} busy)"


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """One line for each case: the figures that all cases have, the worst of its runs."""
    lines = [f"{'case':24} {'U':>7} {'429s':>7} {'wait s':>7} {'lost':>5} {'twice':>6}"]
    for each in results:
        used = min(run["used"] for run in each["runs"])
        rest = [max(run.get(name, 0) for run in each["runs"]) for name in COLUMNS[1:]]
        line = f"{each['case']:24} {used:7.4f} {rest[0]:7.2%} {rest[1]:7.1f} {rest[2]:5.0f} "
        line += f"{rest[3]:6.0f}"
        if each["case"] in CASES:
            line += "  PASS" if CASES[each["case"]].held(each["runs"]) else "  FAIL"
        given_up = sum(run.get("requests_given_up", 0) for run in each["runs"])
        if given_up:
            line += f"  {given_up:.0f} requests given up"
        lines.append(line)
    return "\n".join(lines)
