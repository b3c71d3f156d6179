"""Write configuration.md from the settings and their descriptions.

python docs/generate_configuration.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from embedfleet_schema.settings import Settings

TARGET = Path(__file__).with_name("configuration.md")

HEAD = """\
# Configuration

<!-- Written by docs/generate_configuration.py from schema/embedfleet_schema/setting_fields.py. -->

Settings are read from the environment, once, where a program starts: the command, a worker, or
`connect()`. Where several names are given, the first that is set wins. In Python,
`connect(batch_tokens_cpu=4096)` sets one by its name in small letters, without the prefix, and wins
over the environment. The option `--data` of the command wins over `EMBEDFLEET_DATA`.

| variable | value | default | meaning |
| --- | --- | --- | --- |
"""

TAIL = """
With neither a database URL nor the extra `embedded`, there is nothing to connect to, and a command
says so. A URL may name a driver, as SQLAlchemy writes it (`postgresql+psycopg://`); the driver is
ignored.

Settings of a worker and of a producer are read on their own machines. Those about windows and
batches matter where documents are enqueued; those about leases, heartbeats, sweeps, models and
threads where workers run. The URLs must name the same servers everywhere.

Models from the Hugging Face hub follow the hub's own variables, such as `HF_HOME` (where downloads
are kept) and `HF_TOKEN` (for private models).
"""

# A default that depends on the machine, in words.
IN_WORDS = {"data": "the user's data folder, on Linux `~/.local/share/embedfleet`"}
# Hidden like keys, because a URL may hold a password.
SECRET_URLS = ("database_url", "direct_database_url", "redis_url")
KINDS: dict[object, str] = {
    SecretStr: "secret",
    Path: "folder",
    float: "number",
    bool: "`true` or `false`",
    int: "whole number",
    list: "JSON list",
    dict: "JSON object",
    str: "text",
}


def render() -> str:
    """The whole page."""
    rows = (_row(name, field) for name, field in Settings.model_fields.items())
    return HEAD + "".join(rows) + TAIL


def variables(name: str, field: FieldInfo) -> list[str]:
    """The environment variables that set a field, the strongest first."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [f"EMBEDFLEET_{name.upper()}"]


def _row(name: str, field: FieldInfo) -> str:
    names = ", ".join(f"`{variable}`" for variable in variables(name, field))
    kind = "URL" if name in SECRET_URLS else _kind(field)
    return f"| {names} | {kind} | {_default(name, field)} | {field.description} |\n"


def _kind(field: FieldInfo) -> str:
    annotation: object = field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    # The first of `int | None` is what the value is where there is one.
    (kind, *_) = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
    # What is checked beyond its type is `Annotated[type, ...]`.
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return KINDS[get_origin(plain) or plain]


def _default(name: str, field: FieldInfo) -> str:
    if name in IN_WORDS:
        return IN_WORDS[name]
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value != "" else "empty"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
