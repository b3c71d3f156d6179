"""What a check of `doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `broken` means that the fleet cannot work."""

    level: Level
    subject: str
    found: str
    advice: str = ""
