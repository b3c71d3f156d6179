"""A pytest plugin: what every embedder promises, asked of yours.

pytest_plugins = ["embedfleet.testing"]  # in conftest.py

class TestAcme(EmbedderSuite):  # in a module of tests
model = "acme/small"
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# Before it is imported: a broken promise is told with its values.
pytest.register_assert_rewrite("embedfleet_workers.testing.embedder_promises")

from embedfleet_schema.catalogue.space_lookup import resolve_space  # noqa: E402
from embedfleet_workers.embedders import load_embedder  # noqa: E402
from embedfleet_workers.embedders.protocol import Embedder  # noqa: E402
from embedfleet_workers.testing.embedder_promises import (  # noqa: E402
    FLOAT32,
    PROMISES,
    TEXTS,
    Asked,
    Precision,
    Promise,
    a_closed_embedder_closes_again_and_embeds_no_more,
)

__all__ = ["EmbedderSuite", "Precision"]


@pytest.fixture(scope="class")
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    """The embedder that the class names. Override it where you make yours yourself."""
    loaded = load_embedder(resolve_space(request.cls.model), device="cpu")
    yield loaded
    loaded.close()


@pytest.fixture(scope="class")
def asked(request: pytest.FixtureRequest, embedder: Embedder) -> Asked:
    """What the promises are asked of."""
    suite = request.cls
    vectors = embedder.embed(TEXTS, "document")
    return Asked(embedder, vectors, suite.precision, has_kinds=suite.has_kinds)


class EmbedderSuite:
    """Subclass it and name the model, or override the fixture `embedder` and make it yourself.

    `precision` says what counts as the same vector. `has_kinds` is false where queries are embedded
    as documents are.
    """

    model = ""
    precision = FLOAT32
    has_kinds = True

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_an_embedder_keeps_its_promise(self, asked: Asked, promise: Promise) -> None:
        promise(asked)

    def test_a_closed_embedder_closes_again_and_embeds_no_more(self, asked: Asked) -> None:
        """The last one: the embedder is closed by then."""
        a_closed_embedder_closes_again_and_embeds_no_more(asked)
