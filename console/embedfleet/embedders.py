"""What a package needs that brings an embedder of its own: see docs/embedders.md."""

from embedfleet_schema.catalogue.plugins import ModelDescription
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.plugin import PluginEmbedder
from embedfleet_workers.embedding_errors import (
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
)

__all__ = [
    "BadAnswer",
    "EmbedderBusy",
    "EmbeddingError",
    "InputAtFault",
    "Kind",
    "ModelDescription",
    "PluginEmbedder",
    "Space",
]
