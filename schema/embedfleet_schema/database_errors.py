"""The errors of a database, its tables and its roles; see `errors` for how they are made."""

from __future__ import annotations

from embedfleet_schema.errors import EmbedfleetError, UsageError


class DatabaseUnreachable(EmbedfleetError):
    """PostgreSQL at {url} does not answer: {reason}. Check the URL and that the server is up, or
    run: embedfleet doctor
    """


class DatabaseError(EmbedfleetError):
    """PostgreSQL at {url} reported an error: {reason}. Check it with: embedfleet doctor"""


class ReadOnlyDatabase(EmbedfleetError):
    """PostgreSQL at {url} stores nothing: it is a read replica, or read-only for this user.
    Searches work there. For all else, name the primary in EMBEDFLEET_DATABASE_URL.
    """


class ConnectionsInUse(EmbedfleetError):
    """All {count} connections of this process to PostgreSQL were in use for 30 s. Use fewer
    threads, or raise EMBEDFLEET_MAX_CONNECTIONS.
    """


class SchemaMissing(EmbedfleetError):
    """The database at {url} has no embedfleet tables. Create them with: embedfleet migrate"""


class SchemaOutdated(EmbedfleetError):
    """The tables at {url} are at revision {found}, this program needs {needed}. Run: embedfleet
    migrate
    """


class SchemaNewer(EmbedfleetError):
    """The tables at {url} are at revision {found}, this program knows only {known}. Upgrade
    embedfleet on this machine. Nothing is lost: newer programs do the work that waits.
    """


class PgvectorMissing(EmbedfleetError):
    """The database at {url} cannot provide the pgvector extension: {reason}. Install pgvector on
    the server, or have an administrator run: CREATE EXTENSION vector
    """


class PoolerInTheWay(EmbedfleetError):
    """{url} is a connection pooler. This command needs the server itself: set its URL in
    EMBEDFLEET_DIRECT_DATABASE_URL.
    """


class UnsuitableDatabase(EmbedfleetError):
    """The database at {url} cannot hold a fleet: {reason}."""


class CodeOfOthers(EmbedfleetError):
    """The tables at {url} call code that is not part of embedfleet. It would run with the rights of
    a superuser: {found}. Check it and remove it, or migrate as the owner of the schema embedfleet.
    """


class NotPermitted(EmbedfleetError):
    """PostgreSQL at {url} does not permit this user to do that: {reason}. docs/security.md lists
    the roles. An administrator grants one with: GRANT embedfleet_... TO the user
    """


class Blocked(EmbedfleetError):
    """PostgreSQL at {url} did not get a lock within {seconds:g} s. Held by: {holders}. Try again
    later. Or end that session, as an administrator, with: SELECT pg_terminate_backend({pid})
    """


class UnknownRole(UsageError):
    """PostgreSQL has no role {role!r}. Create it with: CREATE ROLE {role} LOGIN PASSWORD '...'"""


class GrantUseless(UsageError):
    """Role {role!r} can read {name!r} already ({readable}). Those rights show more than live
    documents, so a grant would restrict nothing. Revoke them first, or grant to another role.
    """


class LongName(UsageError):
    """{name!r} is too long for the name of a search function: use at most {most} characters."""


class ViewsInTheWay(UsageError):
    """Other objects depend on collection {name!r}: {dependents}. Drop them first, or drop them
    together with the collection: embedfleet collection drop {name} --cascade
    """


class NameInUse(UsageError):
    """The view of {name!r} would get a vector of another width, and others read it: {dependents}.
    Save their definitions (pg_get_viewdef), drop them, and create them again afterwards.
    """


class ViewBusy(EmbedfleetError):
    """Somebody reads the view of {name!r} for long, so it cannot be replaced. Nothing was changed.
    Try again later. Or find the session in pg_stat_activity, and end it as an administrator.
    """


class MigrationInTheWay(EmbedfleetError):
    """The migration at {url} removes tables or columns that other objects depend on: {dependents}.
    Save their definitions (pg_get_viewdef), drop them, and run embedfleet migrate again. Then
    create them again on the views of the collections. What was migrated before stays.
    """


class RolesRefused(EmbedfleetError):
    """The roles cannot be set up at {url}: {reason}. Run it as a superuser, or as a user that owns
    the database and its tables and has CREATEROLE.
    """


class DatabaseFull(EmbedfleetError):
    """PostgreSQL has no disk space left, so nothing can be stored. Free some space: then
    work goes on by itself.
    """
