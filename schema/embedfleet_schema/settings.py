"""Settings: read once at the edge (command line, worker start, `connect()`) and passed in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from embedfleet_schema.addresses import BadDatabaseUrl, check_database_url, for_psycopg
from embedfleet_schema.errors import BadSettings, NotConfigured
from embedfleet_schema.passwords import DatabaseUrl, Passwords, of_command, of_function
from embedfleet_schema.plain_http import EXPOSED, is_exposed
from embedfleet_schema.redis_url import BadRedisUrl, PrefixedUrl, parse_redis_url
from embedfleet_schema.setting_fields import SettingFields
from embedfleet_schema.stack_file import STACK_FILE, read_stack
from embedfleet_schema.types import Queue

log = logging.getLogger(__name__)

# Names of before, which still count where the new one is not given.
FORMER = {"lane_seconds": "provider_batch_seconds"}


class _FormerVariables(EnvSettingsSource):
    """What the environment gives under former names."""

    def __call__(self) -> dict[str, Any]:
        return dict(self._found())

    def _found(self) -> Iterator[tuple[str, str]]:
        for former, name in FORMER.items():
            value = self.env_vars.get(f"{self.env_prefix}{former}".lower())
            if value and name not in self.current_state:
                log.warning(
                    "EMBEDFLEET_%s is deprecated: set EMBEDFLEET_%s", former.upper(), name.upper()
                )
                yield name, value


class Settings(SettingFields):
    """The fields as one program uses them."""

    _passwords: Passwords | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as pydantic calls it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FormerVariables(settings_cls)

    @model_validator(mode="after")
    def _safe(self) -> Settings:
        if 2 * self.heartbeat_seconds > self.lease_seconds:
            raise ValueError("heartbeat_seconds: must be at most half of lease_seconds")
        for name in type(self).model_fields:
            own = name.endswith("_base_url") and not self.insecure
            if own and is_exposed(getattr(self, name)):
                raise ValueError(f"{name}: {EXPOSED}")
        if self.database_password_command is not None:
            self._passwords = of_command(self.database_password_command.get_secret_value())
        return self

    def with_database_password(self, ask: Callable[[], str]) -> Settings:
        """The same, but a function gives the password of each connection to PostgreSQL."""
        changed = self.model_copy()
        changed._passwords = of_function(ask)  # noqa: SLF001 - one of our own
        return changed

    @cached_property
    def _stack(self) -> dict[str, Any]:
        return read_stack(self.data)

    @property
    def uses_embedded_stack(self) -> bool:
        return self.database_url is None

    @property
    def database(self) -> str:
        """The PostgreSQL URL to use.

        Raises:
            NotConfigured: neither a setting nor an embedded stack names a database.
            BadSettings: it is none that can be read without doubt.
        """
        if self.database_url is not None:
            return self._configured("database_url", self.database_url)
        if "database_url" in self._stack:
            return _checked(f"{self.data / STACK_FILE}", str(self._stack["database_url"]))
        raise NotConfigured

    @property
    def direct_database(self) -> str:
        """The same without a pooler, where its URL is known. The embedded stack has none.

        Raises:
            NotConfigured, BadSettings: as `database` does.
        """
        if self.database_url is None or self.direct_database_url is None:
            return self.database
        return self._configured("direct_database_url", self.direct_database_url)

    def _configured(self, name: str, url: SecretStr) -> str:
        """A URL of the operator's, with what gives its password. The embedded stack has its own."""
        checked = _checked(name, for_psycopg(url.get_secret_value()))
        return DatabaseUrl(checked, self._passwords)

    @property
    def redis(self) -> str:
        """The Redis URL to use, with the prefix of keys; this machine's default port where nothing
        says otherwise.

        Raises:
            BadSettings: the one in the stack's file is none.
        """
        if self.redis_url is not None:
            return PrefixedUrl(self.redis_url.get_secret_value(), self.redis_prefix)
        # The embedded stack's is nobody else's.
        if "redis_url" not in self._stack:
            return PrefixedUrl("redis://127.0.0.1:6379/0", self.redis_prefix)
        url = str(self._stack["redis_url"])
        try:
            parse_redis_url(url)
        except BadRedisUrl as error:
            raise BadSettings(reason=f"{self.data / STACK_FILE}: {error}") from None
        return url

    def batch_tokens(self, queue: Queue) -> int:
        return {
            "cpu": self.batch_tokens_cpu,
            "cuda": self.batch_tokens_cuda,
            "api": self.batch_tokens_api,
        }[queue]


def _checked(origin: str, url: str) -> str:
    try:
        check_database_url(url)
    except BadDatabaseUrl as error:
        raise BadSettings(reason=f"{origin}: {error}") from None
    return url


def load_settings(**overrides: object) -> Settings:
    """Read the environment once; keyword arguments that are not None win over it.

    `database_password` is no setting but a function, which gives the password of each connection.

    Raises:
        BadSettings: a value does not parse; the message names it, and hides secrets.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    ask = given.pop("database_password", None)
    if ask is not None and not callable(ask):
        raise BadSettings(reason="database_password: it is not a function that gives the password")
    for former in FORMER.keys() & given.keys():
        log.warning("the setting %s is deprecated: give %s", former, FORMER[former])
        given.setdefault(FORMER[former], given.pop(former))
    for name in given.keys() - Settings.model_fields.keys():
        near = get_close_matches(name, Settings.model_fields, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadSettings(reason=f"there is no setting {name}{hint}")
    try:
        found = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise BadSettings(reason=f"{name}: {reason}" if name else reason) from None
    except SettingsError as error:
        # A list or an object that is no JSON; the cause quotes it, the message does not.
        raise BadSettings(reason=str(error)) from None
    return found if ask is None else found.with_database_password(ask)
