"""Which files of a folder are wanted: patterns over their path below it, as in .gitignore."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedfleet_schema.errors import BadPattern
from embedfleet_schema.unicode_forms import composed

_PART = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
# Signs that `re` takes, or may come to take, for more than themselves within a class.
_ALONE = re.compile(r"[\\\[&~|]|(?<=-)-")
_FIXED = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns, any of which may match.

    `*`, `?` and `[a-z]` stay within one name, `**` crosses folders. A pattern without a slash
    (but at its end) matches at any depth, one with a slash from the folder on. What matches a
    folder matches all that is in it; a slash at the end matches folders alone.
    """

    compiled: tuple[tuple[re.Pattern[str], bool], ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Patterns:
        """Read patterns.

        Raises:
            BadPattern: one is empty, or holds a class that cannot be.
        """
        return cls(tuple(_compiled(pattern) for pattern in patterns))

    def __bool__(self) -> bool:
        return bool(self.compiled)

    def match(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        """Whether the path itself matches, not what is above it."""
        path = composed("/".join(parts))
        return any(
            (is_folder or not folders_only) and pattern.fullmatch(path) is not None
            for pattern, folders_only in self.compiled
        )

    def match_any(self, parts: Sequence[str]) -> bool:
        """Whether a file's path matches, or a folder above it."""
        return self.match(parts, is_folder=False) or any(
            self.match(parts[:depth], is_folder=True) for depth in range(1, len(parts))
        )


def _compiled(pattern: str) -> tuple[re.Pattern[str], bool]:
    wanted = composed(pattern).removeprefix("./")
    body = wanted.rstrip("/")
    if not body:
        raise BadPattern(pattern=pattern, reason="it is empty")
    anchored = "/" in body
    expression = "".join(map(_translated, _PART.findall(body.lstrip("/"))))
    try:
        compiled = re.compile(expression if anchored else f"(?:.*/)?{expression}", re.DOTALL)
    except re.error as error:
        raise BadPattern(pattern=pattern, reason=str(error)) from error
    return compiled, wanted.endswith("/")


def _translated(part: str) -> str:
    if part in _FIXED:
        return _FIXED[part]
    if part.startswith("[") and len(part) > 1:
        # "[[" and "--" mean more to `re` than in a pattern, or may come to.
        inside = _ALONE.sub(r"\\\g<0>", part[1:-1])
        negated = inside[:1] in {"!", "^"}
        return f"[^/{inside[1:]}]" if negated else f"(?!/)[{inside}]"
    return re.escape(part)
