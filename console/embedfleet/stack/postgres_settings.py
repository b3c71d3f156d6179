"""Settings of the embedded PostgreSQL, sized by the machine's memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from embedfleet_schema.store.scan_defaults import SCAN_DEFAULTS

MIB = 2**20
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - asked for its size, nothing is written there

TEMPLATE = """\
# Written by embedfleet whenever it starts the server. Settings of your own belong below the
# include line of postgresql.conf, or in ALTER SYSTEM.
{settings}
"""


def render() -> str:
    """The text of a configuration file for this machine."""
    settings = settings_for(_memory(), shared_memory_bytes(), os.cpu_count() or 1)
    return TEMPLATE.format(settings="\n".join(f"{k} = '{v}'" for k, v in settings.items()))


def settings_for(memory: int, shared_memory: int | None, cpus: int) -> dict[str, str]:
    """Memory figures in bytes; `shared_memory` is None where the system has no limit of its own."""
    maintenance = _clamp(memory // 16, 64 * MIB, 1024 * MIB)
    settings = {
        "cluster_name": "embedfleet",
        "max_connections": "100",
        "shared_buffers": _megabytes(_clamp(memory // 8, 128 * MIB, 2048 * MIB)),
        "effective_cache_size": _megabytes(memory // 2),
        "maintenance_work_mem": _megabytes(maintenance),
        "max_parallel_maintenance_workers": str(_clamp(cpus - 1, 0, 4)),
        "random_page_cost": "1.1",
        # Bulk loads: few checkpoints, and no log kept for replicas that do not exist.
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        # One file a weekday, the last week's is overwritten.
        "logging_collector": "on",
        "log_directory": "../../logs",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] %d ",
        # Plain SQL through an index gets as many rows as it asks for.
        **SCAN_DEFAULTS,
    }
    if shared_memory is not None and shared_memory < 2 * maintenance:
        # A parallel index build keeps the whole graph in shared memory, and containers often
        # have 64 MB of the POSIX kind. The System V kind is not limited by it.
        settings["dynamic_shared_memory_type"] = "sysv"
    return settings


def _memory() -> int:
    """Bytes that this machine, or the container around us, has."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        # No control group, or no limit ("max").
        return total


def shared_memory_bytes() -> int | None:
    return shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _megabytes(value: int) -> str:
    return f"{value // MIB}MB"
