"""Where the servers and the data are, as it can be set from the environment."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from embedfleet_schema.redis_url import PREFIX
from embedfleet_schema.setting_types import Folder, PasswordCommand, RedisPrefix, RedisUrl
from embedfleet_schema.stack_file import default_data
from embedfleet_schema.types import Queue


class ServerFields(BaseSettings):
    """Each name is prefixed with EMBEDFLEET_; where several are given, the first wins."""

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        env_prefix="EMBEDFLEET_",
        env_ignore_empty=True,  # a compose file hands an unset variable on as an empty one
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL with pgvector, as postgresql://user:password@host:port/name. "
        "Unset: the embedded stack.",
    )
    direct_database_url: SecretStr | None = Field(
        default=None,
        description="The same database without a pooler, for migrations, index builds, locks that "
        "are held long, and workers that embed texts of queries: behind a pooler, they need half a "
        "second longer without it. Unset: EMBEDFLEET_DATABASE_URL.",
    )
    database_password_command: PasswordCommand | None = Field(
        default=None,
        description="A command that prints the password of PostgreSQL, such as a token of a "
        "cloud's IAM, in the place of the one in the URLs (see docs/operations.md). It is run "
        "without a shell before a connection is opened, and at most once a minute.",
    )
    max_connections: int = Field(
        default=8,
        ge=1,
        le=1_000,
        description="Most connections to PostgreSQL of a client; as many threads work at once. "
        "Workers choose by their slots.",
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        validation_alias=AliasChoices("EMBEDFLEET_REDIS_URL", "REDIS_URL", "CELERY_BROKER_URL"),
        description="Redis or Valkey, as redis://user:password@host:port/0; rediss:// with TLS, "
        "unix:///path for a socket, sentinel://host,host/0?master_name=NAME for sentinels (see "
        "docs/operations.md). Unset: the embedded stack's.",
    )
    redis_prefix: RedisPrefix = Field(
        default=PREFIX,
        description="What each key in Redis begins with, before a colon. Fleets that share a "
        "database of Redis each need their own. Braces, as in {embedfleet}, keep all keys on one "
        "shard of a sharded server.",
    )
    data: Folder = Field(
        default_factory=default_data,
        description="Folder of the embedded stack: databases, logs, pid files.",
    )
    local_queue: Queue = Field(
        default="cpu", description="Queue of new collections with a local model: cpu or cuda."
    )
