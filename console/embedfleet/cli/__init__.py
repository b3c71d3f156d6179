"""The `embedfleet` command."""

from embedfleet.cli.entry import main

__all__ = ["main"]
