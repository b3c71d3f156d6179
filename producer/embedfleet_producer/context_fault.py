"""What cannot be the context of a chunk."""

from __future__ import annotations

MAX_CONTEXT_BYTES = 64_000


def context_fault(context: object) -> str | None:
    """Why it cannot be one; None where it can."""
    if not isinstance(context, str):
        return f"a context is a string or None, not {type(context).__name__}"
    if "\0" in context:
        return f"character {context.index(chr(0))} of the context is NUL; remove it"
    try:
        size = len(context.encode())
    except UnicodeEncodeError as error:
        return f"character {error.start} of the context is half of a surrogate pair"
    return (
        None if size <= MAX_CONTEXT_BYTES else f"a context has at most {MAX_CONTEXT_BYTES:,} bytes"
    )
