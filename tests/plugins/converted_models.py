"""Models that were converted for OpenVINO: one folder for all processes of a session's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that every process of ours keeps them in, with the variable that says so."""
    folder = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own below that of the session.
    if folder.name.startswith("popen-"):
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDFLEET_CACHE", str(folder / "cache"))
        yield folder / "cache"


@pytest.fixture(scope="session")
def converted_models(cache: Path) -> Path:
    """As `Wanted.converted`, where the settings would have it."""
    return cache / "converted"
