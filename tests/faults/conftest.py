"""Every test in this folder that has a fleet ends with a check of the invariants."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.embedded import ready
from embedfleet.fleet import Fleet
from embedfleet.stack import down
from embedfleet_schema.settings import load_settings
from plugins.failpoints import report, seed
from plugins.invariants import _invariants
from plugins.servers import copy_stack, stack_folder

__all__ = ["_invariants", "report", "seed"]


@pytest.fixture(scope="session")
def stopped_stack() -> Iterator[Path]:
    """The data folder of a stack with our tables, to be copied: quicker than a first start."""
    with stack_folder() as data:
        ready(data)
        down(data)
        yield data


@pytest.fixture
def own_fleet(stopped_stack: Path) -> Iterator[Fleet]:
    """A fleet whose servers the test may stop."""
    with stack_folder() as data:
        copy_stack(stopped_stack, data)
        ready(data)
        with Fleet(load_settings(data=data, batch_tokens_cpu=64, heartbeat_seconds=1.0)) as fleet:
            yield fleet
