"""Functions of a user's own that cut, in a module that other processes can import."""

import time
from pathlib import Path


def endless(text: str) -> list[str]:
    """Never comes back; the text names a file that says that it was begun."""
    Path(text).touch()
    while True:
        time.sleep(60)


def sentences(text: str) -> list[str]:
    if "bad" in text:
        raise ValueError(text)
    return text.split(". ")
