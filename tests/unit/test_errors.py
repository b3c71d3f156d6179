"""What holds for every error of ours."""

import pickle
import string

import pytest

import embedfleet as ef
import embedfleet_workers.embedding_errors  # noqa: F401 - its classes are among those below
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_workers.embedding_errors import ProviderStopped
from embedfleet_workers.provider_batches.batch_api import Fault, NotDone
from embedfleet_workers.stop import Stop


def subclasses(kind):
    return [each for found in kind.__subclasses__() for each in (found, *subclasses(found))]


STOP = Stop("no_money", "pay")
MADE_OF_OTHERS = {
    ProviderStopped: lambda: ProviderStopped(STOP, provider="openai", model="openai/small"),
    NotDone: lambda: NotDone(STOP, Fault("no_money", "pay"), 429),
}


def made(kind):
    """An error of this class, with something for each name in its message."""
    if kind in MADE_OF_OTHERS:
        return MADE_OF_OTHERS[kind]()
    names = {name for _, name, *_ in string.Formatter().parse(kind.__doc__ or "") if name}
    return kind(**{name.partition(".")[0]: 7 for name in names})


@pytest.mark.parametrize("kind", [EmbedfleetError, *subclasses(EmbedfleetError)])
def test_an_error_comes_whole_from_another_process(kind):
    error = made(kind)
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is our own
    assert (kind, str(error), vars(error)) == (type(other), str(other), vars(other))


@pytest.mark.parametrize(
    "module", ["database_errors", "errors", "exchange_errors", "plugin_errors", "sync_errors"]
)
def test_a_caller_finds_each_error_in_one_place(module):
    kinds = [each for each in subclasses(EmbedfleetError) if each.__module__.endswith(f".{module}")]
    assert kinds
    assert kinds == [getattr(ef.errors, each.__name__) for each in kinds]
