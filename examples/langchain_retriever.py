"""A collection as a retriever of LangChain: pip install "embedfleet[langchain]".

python examples/langchain_retriever.py handbook "how do I reset my password?"
"""

from __future__ import annotations

import asyncio
import sys

import embedfleet as ef
from embedfleet.integrations.langchain import EmbedfleetRetriever


def main(name: str, question: str) -> None:
    with ef.connect() as fleet:
        retriever = EmbedfleetRetriever(collection=fleet.collection(name), where={"lang": "en"})
        for document in retriever.invoke(question):
            print(document.id, document.metadata["document"], document.page_content[:60])
        # In a chain that is asynchronous: the same, beside the event loop.
        assert retriever.invoke(question) == asyncio.run(retriever.ainvoke(question))  # noqa: S101


if __name__ == "__main__":
    main(*sys.argv[1:])
