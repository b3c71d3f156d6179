"""A collection as a vector store of LangChain: pip install "embedfleet[langchain]".

python examples/langchain_store.py handbook "how do I reset my password?"

A worker has to run: it embeds what is added.
"""

from __future__ import annotations

import sys

from langchain_core.documents import Document

import embedfleet as ef
from embedfleet.integrations.langchain import EmbedfleetVectorStore


def main(name: str, question: str) -> None:
    with ef.connect() as fleet:
        store = EmbedfleetVectorStore(fleet.collection(name))
        note = Document("Passwords are reset at the desk.", metadata={"lang": "en"}, id="note")
        store.add_documents([note])
        for document in store.similarity_search(question, k=10, filter={"lang": {"$eq": "en"}}):
            print(document.id, document.page_content[:60])
        store.delete(["note"])


if __name__ == "__main__":
    main(*sys.argv[1:])
