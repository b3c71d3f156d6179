"""Examples that use other libraries, each in a virtual environment with it: `--libraries FOLDER`.

`make test-integrations` makes the environments; without them these tests are left out.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.fleet import Fleet
from plugins.documents import ROOT

Example = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--libraries", type=Path, metavar="FOLDER", help="where library_venvs.py put the venvs"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--libraries") is not None:
        return
    left_out = [item for item in items if item.path.parent.name == "libraries"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def library_example(request: pytest.FixtureRequest, fleet: Fleet) -> Example:
    """Runs an example against the test's fleet with the Python of an environment; returns what it
    printed.
    """
    folder: Path = request.config.getoption("--libraries").absolute()
    servers = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    # Nothing of ours is found but what the environment holds.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def run(library: str, example: str, *words: object, given: str = "") -> str:
        done = subprocess.run(
            [folder / library / "bin" / "python", ROOT / "examples" / example, *map(str, words)],
            env=environment | servers,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    return run
