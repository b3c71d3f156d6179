"""Processes whose C library is wrong about the time, by Debian's libfaketime."""

from pathlib import Path

import pytest


def faked_time(skew_s: int) -> dict[str, str]:
    """Variables for a process whose C library is wrong about the time: whatever in it asks.

    The monotonic clock stays right, as on a machine whose date was set. The times of files do too,
    or Python would compile every module anew.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (Debian's package is called faketime)")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{skew_s:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
