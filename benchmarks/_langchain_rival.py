"""LangChain's `add_texts` with a model that costs nothing; run by another interpreter, which has
langchain-postgres. Reads texts as JSON from standard input, prints the seconds for each store.
"""

import json
import sys
import time
from urllib.parse import urlsplit

from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVector, PGVectorStore

DIMENSIONS = 384
VECTOR = [0.05] * DIMENSIONS


class Nothing(Embeddings):  # type: ignore[misc, unused-ignore]
    """The same vector for every text."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [VECTOR] * len(texts)

    def embed_query(self, text: str) -> list[float]:  # noqa: ARG002 - its name is LangChain's
        return VECTOR


def main() -> None:
    url = urlsplit(sys.argv[1])._replace(scheme="postgresql+psycopg").geturl()
    texts = json.load(sys.stdin)
    engine = PGEngine.from_connection_string(url=url)
    engine.init_vectorstore_table("rival", vector_size=DIMENSIONS, overwrite_existing=True)
    stores = {
        "PGVectorStore": PGVectorStore.create_sync(
            engine, embedding_service=Nothing(), table_name="rival"
        ),
        "PGVector": PGVector(
            embeddings=Nothing(),
            collection_name="rival",
            connection=url,
            embedding_length=DIMENSIONS,
            pre_delete_collection=True,
        ),
    }
    for name, store in stores.items():
        started = time.monotonic()
        store.add_texts(texts)
        print(name, time.monotonic() - started)


if __name__ == "__main__":
    main()
