"""The first lines that a person types, in an empty folder, twice: they end with hits."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.local_workers import running_workers, stop_workers
from plugins.servers import stack_folder

SERVERS = re.compile("URL|^EMBEDFLEET_")
LINES = """
import embedfleet as ef

fleet = ef.connect(workers=2)
docs = fleet.collection("handbook", model="fake/16")
vpn = ef.Document(key="vpn.md", text="Reset the password in the portal.", metadata={"lang": "en"})
docs.enqueue([vpn]).wait(progress=True)
hits = docs.search("how do I reset my password?", k=5, where={"lang": "en"})
print([hit.document for hit in hits])
"""


@pytest.fixture
def data() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder
        stop_workers(folder)


def run(data: Path, lines: str, folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not SERVERS.search(name)}
    done = subprocess.run(
        [sys.executable, "-c", lines],
        env={**clean, "EMBEDFLEET_DATA": str(data)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_the_first_lines_end_with_hits_the_second_time_too(data, tmp_path):
    assert "['vpn.md']\n" == run(data, LINES, tmp_path)
    first = running_workers(data)
    assert 2 == len(first)
    assert "['vpn.md']\n" == run(data, LINES, tmp_path)
    assert first == running_workers(data)
