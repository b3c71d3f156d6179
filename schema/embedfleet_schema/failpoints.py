"""Failpoints: named places where a process fails on demand, so that recovery can be tested.

`after_claim=kill:0.1;before_commit=sleep:2;after_embed=stop:#3;seed=7`: a place, an action, for
`sleep` its seconds, and when: with a probability, at the n-th pass (`#3`), or each time.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from typing import Literal, Self, get_args

from embedfleet_schema.errors import BadSettings, FailpointHit

Place = Literal[
    "after_claim",
    "after_embed",
    "after_part",
    "before_commit",
    "after_commit_before_ack",
    "before_merge",
    "after_merge_before_ring",
    "before_deletion",
    "after_deleted_page",
    "after_provider_batch_lease",
    "after_provider_batch_upload",
    "after_provider_batch_create",
    "after_provider_batch_part",
    "after_webhook",
    "after_change_begun",
    "after_change_listed",
    "after_change_copied",
    "after_change_indexed",
    "before_change_switched",
    "after_change_switched",
    "before_change_finished",
]
Action = Literal["kill", "stop", "sleep", "raise"]


@dataclass(slots=True)
class _Armed:
    """What happens at one place; `nth` 0 means at any pass, with `probability`."""

    action: Action
    seconds: float = 0.0
    probability: float = 1.0
    nth: int = 0
    passed: int = 0


class Failpoints:
    """The armed places of one process. Without any, `hit` costs one look into an empty dict."""

    def __init__(self, armed: dict[str, _Armed] | None = None, *, seed: str = "") -> None:
        self._armed = armed or {}
        self._random = random.Random(seed or None)  # noqa: S311 - no secret depends on it
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that the module describes; an empty text arms nothing.

        Raises:
            BadSettings: an unknown place or action, or a number that does not parse.
        """
        armed: dict[str, _Armed] = {}
        seed = ""
        for item in filter(None, text.split(";")):
            place, _, told = item.partition("=")
            if place == "seed":
                seed = told
            elif place in get_args(Place):
                armed[place] = _read(item, told.split(":"))
            else:
                places = ", ".join(get_args(Place))
                raise BadSettings(reason=f"no failpoint {item!r}; places: {places}")
        return cls(armed, seed=seed)

    def hit(self, place: Place) -> None:
        """Pass a place, and fail there if it is armed and due.

        Raises:
            FailpointHit: the action is `raise`.
        """
        armed = self._armed.get(place)
        if armed is None or not self._is_due(armed):
            return
        match armed.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(armed.seconds)
            case "raise":
                raise FailpointHit(place=place)

    def _is_due(self, armed: _Armed) -> bool:
        with self._lock:
            armed.passed += 1
            if armed.nth:
                return armed.passed == armed.nth
            return armed.probability >= 1 or self._random.random() < armed.probability


def _read(item: str, words: list[str]) -> _Armed:
    action, *numbers = words
    if action not in get_args(Action):
        actions = ", ".join(get_args(Action))
        raise BadSettings(reason=f"the failpoint {item!r} does none of {actions}")
    armed = _Armed(action)  # type: ignore[arg-type]
    try:
        if action == "sleep":
            armed.seconds = float(numbers.pop(0))
        if numbers and numbers[0].startswith("#"):
            armed.nth = int(numbers.pop(0)[1:])
        elif numbers:
            armed.probability = float(numbers.pop(0))
    except (ValueError, IndexError):
        raise BadSettings(reason=f"the failpoint {item!r} cannot be read") from None
    if numbers or armed.nth < 0 or not 0 <= armed.probability <= 1 or not armed.seconds >= 0:
        raise BadSettings(reason=f"the failpoint {item!r} is out of range")
    return armed
