"""The edge of the public classes: no error of the database's driver passes it as it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar


class _Translating(Protocol):
    def _translated(self) -> AbstractContextManager[None]: ...


Kind = TypeVar("Kind", bound=type[_Translating])


def translate_errors(kind: Kind) -> Kind:
    """Have every public call and property of a class raise our errors (see `_translated`)."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            setattr(kind, name, property(_wrapped(member.fget), doc=member.__doc__))
        elif inspect.iscoroutinefunction(member):
            setattr(kind, name, _wrapped_coroutine(member))
        elif inspect.isfunction(member):
            setattr(kind, name, _wrapped(member))
    return kind


def _wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def translating(self: _Translating, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        with self._translated():
            return call(self, *arguments, **named)

    return translating


def _wrapped_coroutine(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def translating(self: _Translating, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        with self._translated():
            return await call(self, *arguments, **named)

    return translating
