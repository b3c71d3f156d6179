"""What PostgreSQL read for a statement."""

from collections.abc import Iterator
from typing import Any


def nodes(explained: list[Any]) -> Iterator[dict[str, Any]]:
    """All nodes of what EXPLAIN (ANALYZE, FORMAT JSON) answers, in one row."""
    ((plan,),) = explained
    return _walk(plan[0]["Plan"])


def most_read(explained: list[Any]) -> float:
    """The most rows that one node gave, or read for nothing."""
    return max(
        max(node["Actual Rows"], node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(explained)
    )


def buffers_read(explained: list[Any]) -> int:
    """Pages that the whole statement looked at, asked for with BUFFERS."""
    top, *_ = nodes(explained)
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)
