"""The cores of a container are those that its CPU limit is worth."""

import os

import pytest

from embedfleet_workers import cores as module
from embedfleet_workers.cores import cores


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine of eight cores, whose limits are in a folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("max 100000\n", 8),
        ("nonsense", 8),
        ("1 0", 8),
    ],
)
def test_a_limit_is_worth_so_many_cores(machine, limit, expected):
    (machine / "cpu.max").write_text(limit)
    assert expected == cores()


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 8), ("0", 8)])
def test_so_it_is_with_the_first_version_of_cgroups(machine, quota, expected):
    (machine / "cpu").mkdir()
    (machine / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (machine / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert expected == cores()


def test_a_machine_without_cgroups_has_its_cores():
    assert 8 == cores()
