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

A program reads its settings once, from the environment, when it starts: the command, a worker, or
`connect()`. If a setting has several names, the first one that is set wins. In Python, give the
name in small letters without the prefix: `connect(batch_tokens_cpu=4096)`. This wins over the
environment. The option `--data` of the command wins over `EMBEDFLEET_DATA`.

| variable | value | default | meaning |
| --- | --- | --- | --- |
"""

TAIL = """
Without a database URL and without the extra `embedded`, a command says that no database is
configured. A URL can name a driver, as for SQLAlchemy (`postgresql+psycopg://`). The driver is
ignored.

Workers and producers read their settings on their own machines. Set those about windows and batches
where you enqueue documents. Set those about leases, heartbeats, sweeps, models and threads where
workers run. The URLs must name the same servers everywhere.

For models from the Hugging Face hub, the hub's own variables apply, such as `HF_HOME` (where
downloads are stored) and `HF_TOKEN` (for private models).
"""

# A default that depends on the machine, in words.
IN_WORDS = {
    "cache": "the user's cache folder, on Linux `~/.cache/embedfleet`",
    "data": "the user's data folder, on Linux `~/.local/share/embedfleet`",
}
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
