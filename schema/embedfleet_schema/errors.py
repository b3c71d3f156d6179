"""The errors that embedfleet raises. A class's docstring is its message.

Those of embedders are in `embedfleet_workers.embedding_errors`.

Each message says what happened, to what, and what to do next. `exit_code` is what the command
line returns: 2 for wrong use, 1 for the rest.
"""

from __future__ import annotations

import inspect


class EmbedfleetError(Exception):
    """embedfleet failed: {reason}"""

    exit_code = 1

    def __init__(self, **details: object) -> None:
        """`details` are what the message names; a class that declares one lets others read it."""
        vars(self).update(details)
        template = inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")
        super().__init__(template.format(**details))


class UsageError(EmbedfleetError):
    """{reason}"""

    exit_code = 2


class BadArgument(UsageError, ValueError):
    """{call}: {name} is {wanted}, not {given}."""


class WrongType(UsageError, TypeError):
    """{call}: {name} is {wanted}, not {given}."""


class NotDocuments(UsageError, TypeError):
    """Documents are needed, not {given}. Give a list or a generator of them:
    docs.enqueue([ef.Document(key="a.md", text="...", metadata={{"lang": "en"}})]). Files are read
    with: docs.enqueue(ef.read_paths(["folder"]))
    """


class BadName(UsageError):
    """{name!r} cannot name a collection: {reason}. Use up to 63 of a-z, 0-9 and _, starting with a
    letter.
    """


class UnknownCollection(UsageError):
    """There is no collection {name!r}. {known} Create it with: embedfleet collection create {name}
    --model MODEL
    """


class CollectionGone(UsageError):
    """The collection {name!r} was dropped after it was opened here; one that has its name now is
    another. Open or create that with: fleet.collection({name!r}, model=...)
    """


class ModelMismatch(UsageError):
    """Collection {name!r} holds vectors of {existing}, not of {wanted}, and the two cannot be
    compared. Open it with its own model, or create another collection for {wanted} and enqueue the
    documents there.
    """


class ChunkingMismatch(UsageError):
    """Collection {name!r} cuts its documents with {differences}. Open it without naming the
    chunking, or create another collection.
    """


class ReuseMismatch(UsageError):
    """Collection {name!r} was made with reuse {reuse!r}, not {wanted!r}. Open it without that."""


class BadChunking(UsageError):
    """The chunking cannot work: {reason}."""


class BadModelName(UsageError):
    """{name!r} does not name a model: {reason}. Examples: all-MiniLM-L6-v2, local//data/my-model,
    openai/text-embedding-3-small, fake/384.
    """


class BadFilter(UsageError):
    """The filter {filter!r} is not understood: {reason}. Write --where key=value; a JSON value
    (true, 3, "text") keeps its type.
    """


class BadVector(UsageError):
    """The query vector does not fit {space}: {reason}."""


class UnreadableQuery(UsageError):
    """The query {query!r} cannot be searched for: {reason}."""


class UnknownJob(UsageError):
    """There is no job {job}; it may have been dropped with its collection, or removed some weeks
    after it ended (EMBEDFLEET_JOB_RETENTION_DAYS). List the latest with: embedfleet status
    """


class UnknownModel(UsageError):
    """No collection uses the model {model!r}. Write it as `embedfleet collection list` shows it, as
    openai/text-embedding-3-small; a job is named by its number.
    """


class JobPaused(EmbedfleetError):
    """Job {job} is paused: {reason}"""


class BudgetSpent(UsageError):
    """Job {job} has spent {spent}, and its budget is {budget}. Raise it with: embedfleet
    resume {job} --budget USD
    """


class BadBudget(UsageError):
    """A budget of {budget} USD cannot be kept: give an amount above 0, such as 2.50."""


class PriceUnknown(UsageError):
    """What {model} costs is not known, so a budget for it cannot be kept. Say it in USD per million
    tokens, to producers and workers alike: EMBEDFLEET_PRICES='{{"{model}": 0.1}}'
    """


class ProviderBatchesUnsupported(UsageError):
    """{model} cannot go through provider batches: of the batch APIs, embedfleet speaks OpenAI's,
    and that is not {provider}'s. Enqueue without --provider-batches.
    """


class InputMissing(UsageError):
    """Nothing to enqueue: {path}: {reason}."""


class BadReadOption(UsageError):
    """The option {option} cannot be {value!r}: {reason}."""


class BadPattern(UsageError):
    """The pattern {pattern!r} cannot be used: {reason}. Write it as in .gitignore, as '*.log'."""


class NothingAccepted(EmbedfleetError):
    """Nothing was accepted of {count} inputs; the first, {key}: {reason}. See them all with:
    embedfleet failures {name}
    """


class HashCollision(EmbedfleetError):
    """A text of {keys} has the same hash as another text of the collection, which does not happen
    by chance. Nothing of these documents and of those read with them was stored. Find out who made
    them, and enqueue the others without them.
    """


class ExtraMissing(EmbedfleetError):
    """{feature} needs packages that are not installed. Install them with: pip install
    'embedfleet[{extra}]'
    """


class NotConfigured(EmbedfleetError):
    """No database is configured. Set EMBEDFLEET_DATABASE_URL (or DATABASE_URL), or start the
    embedded stack with: embedfleet up
    """


class BadSettings(UsageError):
    """The configuration is not usable: {reason}."""


class DatabaseUnreachable(EmbedfleetError):
    """PostgreSQL at {url} does not answer: {reason}. Check the URL and that the server is up, or
    run: embedfleet doctor
    """


class DatabaseError(EmbedfleetError):
    """PostgreSQL at {url} did not do what it was asked to: {reason}. Check it with: embedfleet
    doctor
    """


class ConnectionsInUse(EmbedfleetError):
    """All {count} connections of this process to PostgreSQL were in use for 30 s. Let fewer threads
    work at once, or raise EMBEDFLEET_MAX_CONNECTIONS
    """


class SchemaMissing(EmbedfleetError):
    """The database at {url} has no embedfleet tables. Create them with: embedfleet migrate"""


class SchemaOutdated(EmbedfleetError):
    """The tables at {url} are at revision {found}, this program needs {needed}. Run: embedfleet
    migrate
    """


class SchemaNewer(EmbedfleetError):
    """The tables at {url} are at revision {found}, this program knows only {known}: upgrade
    embedfleet on this machine. Nothing is lost: what waits is done by programs that know them.
    """


class PgvectorMissing(EmbedfleetError):
    """The database at {url} cannot provide the pgvector extension: {reason}. Install pgvector on
    the server, or have an administrator run: CREATE EXTENSION vector
    """


class PoolerInTheWay(EmbedfleetError):
    """{url} is a pooler, and this needs the server: name it in EMBEDFLEET_DIRECT_DATABASE_URL."""


class UnsuitableDatabase(EmbedfleetError):
    """The database at {url} cannot hold a fleet: {reason}."""


class CodeOfOthers(EmbedfleetError):
    """The tables at {url} call code that is not ours, and it would run with the rights of a
    superuser: {found}. Look at it and remove it, or migrate as the owner of the schema embedfleet.
    """


class NotPermitted(EmbedfleetError):
    """PostgreSQL at {url} does not let this user do that: {reason}. Which role may do what stands
    in docs/security.md; an administrator grants it with: GRANT embedfleet_... TO the user
    """


class Blocked(EmbedfleetError):
    """PostgreSQL at {url} did not get a lock within {seconds:g} s. Held by: {holders}. Try again
    later; or end who holds it, as an administrator, with: SELECT pg_terminate_backend({pid})
    """


class UnknownRole(UsageError):
    """PostgreSQL has no role {role!r}. Create it with: CREATE ROLE {role} LOGIN PASSWORD '...'"""


class GrantUseless(UsageError):
    """Role {role!r} can read {name!r} already ({readable}), and neither a table nor a plain view
    keeps from its readers what is not live, so a grant would restrict nothing. Take those rights
    away first, or grant to another role.
    """


class LongName(UsageError):
    """{name!r} is too long a name for a search function: it may have {most} characters."""


class ViewsInTheWay(UsageError):
    """Others stand on collection {name!r}: {dependents}. Drop them first; or drop them together
    with the collection: embedfleet collection drop {name} --cascade
    """


class MigrationInTheWay(EmbedfleetError):
    """The migration at {url} removes tables or columns that others stand on: {dependents}. Keep
    their definitions (pg_get_viewdef), drop them, run embedfleet migrate again, and make them anew
    on the views of the collections. What was migrated before stays.
    """


class RolesRefused(EmbedfleetError):
    """The roles cannot be set up at {url}: {reason}. Run it as a superuser, or as a user that owns
    the database and its tables and has CREATEROLE.
    """


class StackError(EmbedfleetError):
    """The embedded stack in {data} cannot {action}: {reason}."""


class StackStopped(EmbedfleetError):
    """The embedded servers in {data} {state}. Start them with: {start}"""

    exit_code = 2


class WorkersElsewhere(UsageError):
    """connect(workers=...) starts workers for the embedded stack, and a database of your own is
    configured. Start workers where they are to run: embedfleet worker --queue {queue}
    """


class WorkerStartFailed(EmbedfleetError):
    """The worker cannot start: {reason}."""


class ModelNotFound(EmbedfleetError):
    """The model {model!r} cannot be loaded: {reason}. Give a hub name while there is a network, or
    a directory that holds the model.
    """

    reason: str


class ModelRefused(EmbedfleetError):
    """The model {model!r} is refused: {reason}."""


class KeyMissing(EmbedfleetError):
    """There is no key for {provider} here, so {model} cannot be called. Set {variable} where
    workers of the queue api run, and where texts are searched for.
    """


class LeaseLost(EmbedfleetError):
    """Batch {batch} is no longer leased to this worker (attempt {attempt}): its result is void."""


class WaitTimeout(EmbedfleetError):
    """Job {job} is not finished after {timeout_s:g} s: {progress}. It goes on without you."""


class NoWorker(EmbedfleetError):
    """No worker of queue {queue} lives, so job {job} does not go on: {progress}. Start one with:
    {start}
    """


class LibraryMissing(EmbedfleetError):
    """The sources of Python's standard library are not in {path}, so there are no docstrings to
    read. Run this with an ordinary Python, or enqueue files of your own with: embedfleet enqueue
    """


class DatabaseFull(EmbedfleetError):
    """PostgreSQL has no disk space left, so nothing can be stored. Work goes on by itself when
    there is space again.
    """


class FailpointHit(EmbedfleetError):
    """The failpoint {place} was hit, as EMBEDFLEET_FAILPOINTS asks for: this is a test."""
