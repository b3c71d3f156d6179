"""Version floors: what is too old is refused with its reason; what is absent is not asked for."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_workers.versions import (
    PACKAGES,
    PGVECTOR,
    POSTGRES,
    broker_advice,
    check_packages,
    pgvector_advice,
    release,
)

LEAST = re.compile(r"([\w-]+)>=([\d.]+)")
NEW = {"sentence-transformers": "6.2.0", "transformers": "5.3.0", "torch": "2.13.0+cpu"}


def installed(**changed):
    versions = NEW | {name.replace("_", "-"): number for name, number in changed.items()}

    def ask(name):
        if versions[name] is None:
            raise PackageNotFoundError(name)
        return versions[name]

    return ask


def test_what_is_installed_here_is_new_enough():
    check_packages()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.13.0+cpu", (2, 13)),
        ("6.0.0rc1", (6,)),
        ("18.4 (Debian 18.4-1.pgdg13+1)", (18, 4)),
        ("17beta1", (17,)),
        ("0.8.0", (0, 8)),
        ("0.0", (0,)),
    ],
)
def test_a_version_is_read_up_to_its_first_word(text, expected):
    assert expected == release(text)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=5), st.text("abc+-. ", max_size=8))
def test_zeros_at_the_end_and_words_do_not_change_a_version(numbers, suffix):
    text = ".".join(map(str, numbers))
    expected = release(text)
    assert expected == release(f"{text}.0") == release(f"{text}+{suffix}")


def test_something_else_is_no_version():
    with pytest.raises(ValueError, match="not a version"):
        release("unknown")


@pytest.mark.parametrize(
    ("name", "old", "said"),
    [
        ("sentence_transformers", "5.9.1", "run its own code"),
        ("transformers", "5.2.9", "CVE-2026-4372"),
        ("torch", "2.9.1+cu128", "CVE-2026-24747"),
    ],
)
def test_a_package_that_is_too_old_is_refused_with_its_reason_and_a_way_out(name, old, said):
    with pytest.raises(WorkerStartFailed) as caught:
        check_packages(installed(**{name: old}))
    message = str(caught.value)
    assert message.startswith(f"The worker cannot start: {name.replace('_', '-')} {old} is older")
    assert said in message
    assert "pip install" in message


def test_a_worker_process_ends_with_the_reason_as_its_last_line(tmp_path):
    old = tmp_path / "torch-2.9.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n")
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "embedfleet_workers", "worker", "-P", "solo"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "EMBEDFLEET_DATA": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == ended.returncode
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: The worker cannot start: torch 2.9.0 is older than 2.10")


def test_a_worker_without_local_models_needs_none_of_the_packages():
    check_packages(installed(sentence_transformers=None, transformers=None, torch=None))


def test_every_floor_is_also_what_the_extra_asks_for():
    wanted = dict(found.groups() for line in requires("embedfleet") if (found := LEAST.match(line)))
    assert {f.name: f.least for f in PACKAGES} == {
        f.name: release(wanted[f.name]) for f in PACKAGES
    }


@pytest.mark.parametrize(
    ("floor", "old", "fine"), [(POSTGRES, "14.20", "15.0"), (PGVECTOR, "0.7.4", "0.8.0")]
)
def test_a_server_that_is_too_old_is_refused(floor, old, fine):
    floor.refuse(fine)
    with pytest.raises(WorkerStartFailed, match=f"{floor.name} {old} is older than"):
        floor.refuse(old)


@pytest.mark.parametrize(
    ("name", "number", "warned"),
    [
        ("redis", "7.4.9", True),
        ("redis", "8.2.8", True),
        ("redis", "8.2.9", False),
        ("redis", "8.3.99", True),
        ("redis", "8.4.6", False),
        ("redis", "8.8.1", True),
        ("redis", "8.8.2", False),
        ("redis", "8.10.0", False),
        ("redis", "9.0", False),
        ("valkey", "8.1.4", True),
        ("valkey", "9.1.1", True),
        ("valkey", "9.1.2", False),
        ("valkey", "10.0.0", False),
    ],
)
def test_a_broker_without_the_fixes_is_warned_of(name, number, warned):
    assert warned == bool(broker_advice(name, number))


@pytest.mark.parametrize(("number", "warned"), [("0.8.3", True), ("0.8.4", False), ("1.0", False)])
def test_a_pgvector_with_known_faults_is_warned_of(number, warned):
    assert warned == bool(pgvector_advice(number))
