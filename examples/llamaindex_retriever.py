"""A collection as a retriever of LlamaIndex: pip install "embedfleet[llamaindex]".

python examples/llamaindex_retriever.py handbook "how do I reset my password?"
"""

from __future__ import annotations

import asyncio
import sys

import embedfleet as ef
from embedfleet.integrations.llamaindex import EmbedfleetRetriever


def main(name: str, question: str) -> None:
    with ef.connect() as fleet:
        retriever = EmbedfleetRetriever(fleet.collection(name), where={"lang": "en"})
        found = retriever.retrieve(question)
        for hit in found:
            print(hit.node.node_id, hit.node.metadata["document"], hit.node.text[:60])
        # In a workflow that is asynchronous: the same, beside the event loop.
        assert found == asyncio.run(retriever.aretrieve(question))  # noqa: S101


if __name__ == "__main__":
    main(*sys.argv[1:])
