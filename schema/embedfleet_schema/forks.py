"""What a process holds and its forked children must not: connections, threads, locks."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

_renewals: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
# Kept for good: at their end such things would say goodbye to servers, in the parent's name.
_inherited: list[object] = []


def renewed_after_fork(holder: object, method: str) -> None:
    """In each forked child, call this method of `holder` before anything else.

    It starts anew with locks of its own, because a thread that held one is not there any more, and
    hands what it held to `leave_to_parent`.
    """
    _renewals[holder] = method


def leave_to_parent(*things: object) -> None:
    """Never close these here, and never let them be collected: they are the parent's."""
    _inherited.extend(thing for thing in things if thing is not None)


def _renew() -> None:
    for holder, method in list(_renewals.items()):
        renew: Callable[[], None] = getattr(holder, method)
        renew()


os.register_at_fork(after_in_child=_renew)
