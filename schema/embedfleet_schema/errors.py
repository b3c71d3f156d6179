"""The errors that embedfleet raises. A class's docstring is its message.

Those of embedders are in `embedfleet_workers.embedding_errors`, those of databases in
`database_errors`, those of export and import in `exchange_errors`, those of syncs in `sync_errors`;
`embedfleet.errors` has all but the first. Each message says what happened, to what, and what to do
next. `exit_code` is what the command returns: 2 for wrong use, 1 for the rest.
"""

from __future__ import annotations

import copyreg


class EmbedfleetError(Exception):
    """embedfleet failed: {reason}"""

    exit_code = 1

    def __init__(self, **details: object) -> None:
        """`details` are what the message names; a class that declares one lets others read it."""
        vars(self).update(details)
        super().__init__(" ".join((type(self).__doc__ or "").split()).format(**details))

    def __reduce__(self) -> tuple[object, ...]:
        """An error may come from another process."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


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
    """The collection {name!r} was dropped after this program opened it. A collection of that name
    now is another one. Open or create it with: fleet.collection({name!r}, model=...)
    """


class CollectionMoved(UsageError):
    """The collection that this program opened as {name!r} is named {now!r} now. What was stored
    before stays. Open the one that you mean, and do the rest again: fleet.collection({name!r})
    """


class ModelChanged(UsageError):
    """The collection {name!r} has another model by now than the vector. Embed the text again."""


class ModelChangeRefused(UsageError):
    """Collection {name!r} cannot change its model: {reason}."""


class ModelChangeUnready(EmbedfleetError):
    """{name!r} still serves with its former model: {reason}. Nothing is lost. Go on with:
    embedfleet collection migrate {name}
    """


class InModelChange(UsageError):
    """{name!r} belongs to the model change of {served!r}: {reason}. End the change first with:
    embedfleet collection migrate {served} --finish
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
    """Collection {name!r} was made with reuse {reuse!r}, not {wanted!r}. Open it without reuse."""


class PrecisionMismatch(UsageError):
    """Collection {name!r} takes vectors of {existing}, not of {wanted}. Open it without precision,
    or create another collection.
    """


class TemplateUnfinished(UsageError):
    """A change of the template of {name!r} did not come to its end. Finish it first: embedfleet
    collection set {name} --template {template!r} --yes
    """


class BadChunking(UsageError):
    """The chunking cannot work: {reason}."""


class BadModelName(UsageError):
    """{name!r} does not name a model: {reason}. Examples: all-MiniLM-L6-v2, local//data/my-model,
    openai/text-embedding-3-small, fake/384.
    """


class BadFilter(UsageError):
    """The filter {filter!r} is not understood: {reason}. Write --where key=value; a JSON value
    (true, 3, "text") keeps its type. With operators, write --filter: {{"year": {{"gte": 2020}}}}.
    """


class ColumnRefused(UsageError):
    """Collection {name!r} cannot show {column!r} as a column: {reason}."""


class BadVector(UsageError):
    """The query vector does not fit {space}: {reason}."""


class UnreadableQuery(UsageError):
    """The query {query!r} cannot be searched for: {reason}."""


class QueryRefused(EmbedfleetError):
    """A worker could not embed the query {query!r}: {reason}."""


class NotAnswered(EmbedfleetError):
    """No worker embedded the query: {reason}. Start one, or install the model on this machine."""


class UnknownJob(UsageError):
    """There is no job {job}. It may have been dropped with its collection, or removed some weeks
    after it ended (EMBEDFLEET_JOB_RETENTION_DAYS). List the latest jobs with: embedfleet status
    """


class UnknownModel(UsageError):
    """No collection uses the model {model!r}. Write it as `embedfleet collection list` shows it,
    such as openai/text-embedding-3-small. A job is named by its number.
    """


class JobPaused(EmbedfleetError):
    """Job {job} is paused: {reason}"""


class BudgetSpent(UsageError):
    """Job {job} has spent {spent} of {budget}. Raise it: embedfleet resume {job} --budget USD"""


class BadBudget(UsageError):
    """A budget of {budget} USD is not valid. Give an amount above 0, such as 2.50."""


class PriceUnknown(UsageError):
    """The price of {model} is not known, so its costs cannot be kept within a budget. Set it in USD
    per million tokens, for producers and workers: EMBEDFLEET_PRICES='{{"{model}": 0.1}}'
    """


class BadWebhook(UsageError):
    """The URL of the webhook cannot be used: {reason}."""


class ProviderBatchesUnsupported(UsageError):
    """{model} cannot go through provider batches: of the batch APIs, embedfleet speaks OpenAI's,
    and that is not {provider}'s. Enqueue without --provider-batches.
    """


class InputMissing(UsageError):
    """Nothing to enqueue: {path}: {reason}."""


class StoreRefused(EmbedfleetError):
    """{url} cannot be read: {reason}."""

    reason: str


class BadReadOption(UsageError):
    """The option {option} cannot be {value!r}: {reason}."""


class BadPattern(UsageError):
    """The pattern {pattern!r} cannot be used: {reason}. Write it as in .gitignore: '*.log'."""


class NothingAccepted(EmbedfleetError):
    """None of {count} inputs was accepted. The first is {key}: {reason}. List all of them with:
    embedfleet failures {name}
    """


class HashCollision(EmbedfleetError):
    """A text of {keys} has the same hash as another text of the collection. That does not happen by
    chance: somebody made it so. These documents, and those that were read with them, were not
    stored. Find out who made them, and enqueue the others without them.
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


class StackError(EmbedfleetError):
    """The embedded stack in {data} cannot {action}: {reason}."""


class StackStopped(UsageError):
    """The embedded servers in {data} {state}. Start them with: {start}"""


class WorkersElsewhere(UsageError):
    """connect(workers=...) starts workers for the embedded stack only, but your own database is
    configured. Start workers where they are to run: embedfleet worker --queue {queue}
    """


class WorkerStartFailed(EmbedfleetError):
    """The worker cannot start: {reason}."""


class ModelNotFound(EmbedfleetError):
    """The model {model!r} cannot be loaded: {reason}. Give the name of a model on the hub (that
    needs a network), or a directory that holds the model.
    """

    reason: str


class ModelRefused(EmbedfleetError):
    """The model {model!r} is refused: {reason}."""


class KeyMissing(EmbedfleetError):
    """There is no API key for {provider} here, so {model} cannot be called. Set {variable} for
    workers of the queue api, and for programs that search by text.
    """


class AccountMissing(KeyMissing):
    """{provider} needs {what}, which is not set here. Set {variable} for workers of the queue api,
    and for programs that search by text.
    """


class LeaseLost(EmbedfleetError):
    """Batch {batch} is no longer leased to this worker (attempt {attempt}): nothing was stored."""


class WaitTimeout(EmbedfleetError):
    """Job {job} is not finished after {timeout_s:g} s: {progress}. It goes on without you."""


class NoWorker(EmbedfleetError):
    """No worker serves queue {queue}, so job {job} does not go on: {progress}. Start one with:
    {start}
    """


class LibraryMissing(EmbedfleetError):
    """The sources of Python's standard library are not in {path}, so there are no docstrings to
    read. Run this with an ordinary Python, or enqueue your own files with: embedfleet enqueue
    """


class FailpointHit(EmbedfleetError):
    """The failpoint {place} was hit, as EMBEDFLEET_FAILPOINTS asks for: this is a test."""
