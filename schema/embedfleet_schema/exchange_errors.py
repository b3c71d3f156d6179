"""The errors of export and import, and of stores for other libraries; see `errors` for how they are
made.
"""

from __future__ import annotations

from embedfleet_schema.errors import EmbedfleetError, UsageError


class ExportRefused(UsageError):
    """The collection cannot be exported to {path}: {reason}."""


class ExportFailed(EmbedfleetError):
    """The export to {path} failed: {reason}. No part of it is left under that name. Mend the cause
    and export again.
    """


class ImportRefused(UsageError):
    """{path} cannot be imported: {reason}."""


class ModelUnstated(UsageError):
    """{path} does not say which model made its vectors. Name it: --model {example}"""


class ExposeRefused(UsageError):
    """The view {view} cannot be made: {reason}."""


class VectorizerRefused(UsageError):
    """The vectorizer {name} cannot be taken over: {reason}."""


class NotAdded(EmbedfleetError):
    """{failed} of {documents} documents cannot be found in collection {name!r}. The first one is
    {first}. The others can. To see all: embedfleet failures {name}
    """
