"""The log of a process of ours: JSON where a machine reads it, text on a terminal.

Everybody logs with the standard library; structlog decides how a line looks. What may be in it is
decided where it is written, and URLs lose their passwords here once more.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

from embedfleet_schema.types import LogFormat

# In a URL, written well or not, and as a parameter of PostgreSQL.
_PASSWORD = re.compile(r"""(//[^:/?#\s@]*:)[^\s"']*(?=@)|(?<=password)(=)[^\s"'&]+""")

_Line = MutableMapping[str, Any]


def without_passwords(text: str) -> str:
    """The text with the passwords of URLs and connection strings hidden."""
    return _PASSWORD.sub(r"\1\2***", text)


def write_log(
    level: int | str, layout: LogFormat, *, file: str | None = None, stream: TextIO | None = None
) -> None:
    """Have this process write its log to a stream (standard error), or to a file."""
    import structlog

    output = stream or sys.stderr
    on_terminal = file is None and output.isatty()
    handler: logging.Handler = (
        logging.StreamHandler(output) if file is None else logging.handlers.WatchedFileHandler(file)
    )
    as_text = layout == "text" or (layout == "auto" and on_terminal)
    finish = (
        structlog.dev.ConsoleRenderer(colors=on_terminal, pad_event_to=0)
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False, separators=(",", ":"))
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=not as_text),
            ],
            processors=[
                _add_process,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Without the values of variables, which may be texts.
                structlog.processors.format_exc_info,
                _hide_passwords,
                finish,
            ],
        )
    )
    root = logging.getLogger()
    for former in root.handlers[:]:
        # Not what a program added to hear along.
        if type(former) in (logging.StreamHandler, logging.handlers.WatchedFileHandler):
            root.removeHandler(former)
            former.close()
    root.addHandler(handler)
    root.setLevel(level)


def message_of(line: str) -> str:
    """What a line of such a log says to a person."""
    try:
        return str(json.loads(line)["event"]) if line.startswith("{") else line
    except (ValueError, KeyError, TypeError):
        return line


def _add_process(_logger: object, _method: str, line: _Line) -> _Line:
    record: logging.LogRecord = line["_record"]
    return {**line, "process": record.processName, "pid": record.process}


def _hide_passwords(_logger: object, _method: str, line: _Line) -> _Line:
    return {
        name: without_passwords(value) if isinstance(value, str) else value
        for name, value in line.items()
    }
