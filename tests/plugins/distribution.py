"""Which tests go to the same process of `pytest -n`, and in which order."""

import gc
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

# Tests that need torch, and leave it to processes that they start.
IN_OTHER_PROCESSES = ("test_bench_gpu.py", "test_demo.py")


def group(root: Path, nodeid: str) -> str:
    """The name of what goes to one process, with all of its tests.

    Whole files do. All that load a model are one group: to import torch and what belongs to it
    takes five seconds of a core. Unit tests that share no fixture go function by function: of what
    is left for the end, nothing is long.
    """
    file = nodeid.split("::", 1)[0]
    text = _text(root / file)
    if "pytest.mark.torch" in text and Path(file).name not in IN_OTHER_PROCESSES:
        return "torch"
    is_whole = "/unit/" not in file or 'scope="module"' in text
    return file if is_whole else nodeid.split("[", 1)[0]


@cache
def _text(file: Path) -> str:
    """What stands there: the process that hands out tests imports none of them."""
    return file.read_text()


class Groups(LoadFileScheduling):
    def _split_scope(self, nodeid):
        return group(self.config.rootpath, nodeid)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects come about here, and stay: no collection of garbage, now or while the
    tests run, looks through them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The tests file by file: those that wait for processes among those that keep a core busy, of
    which some are left for the end, when nothing long may be left over.
    """
    waiting, busy = {}, {}
    for item in items:
        files = waiting if item.path.parent.name in ("acceptance", "faults") else busy
        files.setdefault(item.path, []).append(item)
    order, rest = [], list(busy.values())
    between = 2 * len(rest) // 3 // (len(waiting) + 1)
    for tests in waiting.values():
        order += [tests, *rest[:between]]
        del rest[:between]
    items[:] = [test for tests in [*order, *rest] for test in tests]
