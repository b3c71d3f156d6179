"""The file in which the embedded stack says where it listens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import platformdirs

from embedfleet_schema.errors import BadSettings

STACK_FILE = "stack.json"


def default_data() -> Path:
    """The folder of the stack where nobody chose another one."""
    return Path(platformdirs.user_data_dir("embedfleet"))


def default_cache() -> Path:
    """The folder for what can be made again, where nobody chose another one."""
    return Path(platformdirs.user_cache_dir("embedfleet"))


def read_stack(data: Path) -> dict[str, Any]:
    """Where `embedfleet up` says the stack of a folder listens; empty when it was never started.

    Raises:
        BadSettings: the file cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((data / STACK_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadSettings(reason=f"{data / STACK_FILE}: {error}") from error
    return found
