"""LangChain's filters in our language, which has the same operators but for their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedfleet_schema.errors import BadFilter

# Those that are ours with a dollar before them.
_SAME = ("eq", "in", "lt", "lte", "gt", "gte", "exists")
_OPERATORS = (*_SAME, "ne", "nin", "between", "and", "or", "not")


def in_our_language(given: Mapping[str, Any]) -> dict[str, Any]:
    """A filter of LangChain's stores as one for `Collection.search`; one of ours stays as it is.

    Raises:
        BadFilter: it has an operator of theirs that has no equal, such as $like.
    """
    tests = [_test(given, name, value) for name, value in given.items()]
    return tests[0] if len(tests) == 1 else {"and": tests} if tests else {}


def _test(whole: Mapping[str, Any], name: str, value: object) -> dict[str, Any]:
    match name.removeprefix("$"):
        case "and" | "or" as group:
            return {group: [_filter(whole, each) for each in _listed(whole, value)]}
        case "not":
            return {"not": _filter(whole, value)}
    if name.startswith("$") and not name.startswith("$."):
        raise _unknown(whole, name)
    if not isinstance(value, Mapping):
        return {name: value}
    tests = [_comparison(whole, name, operator, each) for operator, each in value.items()]
    return tests[0] if len(tests) == 1 else {"and": tests} if tests else {name: value}


def _comparison(
    whole: Mapping[str, Any], name: str, operator: object, value: object
) -> dict[str, Any]:
    match str(operator):
        case "$ne":
            return {"not": {name: {"eq": value}}}
        case "$nin":
            return {"not": {name: {"in": value}}}
        case "$between":
            low, high = _pair(whole, value)
            return {name: {"gte": low, "lte": high}}
        case word if word.startswith("$"):
            if word[1:] not in _SAME:
                raise _unknown(whole, word)
            return {name: {word[1:]: value}}
        case word:
            return {name: {word: value}}


def _filter(whole: Mapping[str, Any], value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadFilter(filter=dict(whole), reason=f"{value!r} is no filter")
    return in_our_language(value)


def _listed(whole: Mapping[str, Any], value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise BadFilter(filter=dict(whole), reason=f"$and and $or take a list, not {value!r}")
    return value


def _pair(whole: Mapping[str, Any], value: object) -> tuple[object, object]:
    if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004 - two ends
        raise BadFilter(filter=dict(whole), reason=f"$between takes two values, not {value!r}")
    return value[0], value[1]


def _unknown(whole: Mapping[str, Any], operator: str) -> BadFilter:
    there_are = ", $".join(("", *_OPERATORS))[2:]
    return BadFilter(filter=dict(whole), reason=f"{operator} is no operator; there are {there_are}")
