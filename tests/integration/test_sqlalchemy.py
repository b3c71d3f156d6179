"""The view of a collection as SQLAlchemy has it."""

import numpy as np
import pytest
from pgvector import HalfVector
from sqlalchemy import MetaData, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Session

import embedfleet as ef
from plugins.fleets import drain


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_a_search_with_the_table_finds_what_a_search_finds(fleet, worker, storage):
    docs = fleet.collection("docs", model="fake/16", storage=storage)
    docs.enqueue(ef.Document(f"d{n}", f"text {n}", {"even": n % 2 == 0}) for n in range(20))
    drain(worker())
    metadata = MetaData()
    table = docs.table(metadata)
    assert ["embedfleet.docs"] == list(metadata.tables)
    vector = docs.embed_query("text 3")
    given = HalfVector(vector) if storage == "halfvec" else vector
    distance = table.c.embedding.cosine_distance(given)
    chosen = table.c.metadata_["even"].as_boolean()
    statement = select(table.c.document, table.c.content).where(chosen).order_by(distance).limit(5)
    url = fleet.settings.database.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)

    class Base(DeclarativeBase):
        pass

    class Chunk(Base):
        __table__ = docs.table(Base.metadata)

    with Session(engine) as session:
        rows = session.execute(statement).all()
        hits = docs.search(vector, k=5, where={"even": True})
        assert [(hit.document, hit.content) for hit in hits] == [tuple(row) for row in rows]
        nearest = select(Chunk).order_by(Chunk.embedding.cosine_distance(given))
        chunk = session.scalars(nearest).first()
        (hit,) = docs.search(vector, k=1)
        assert (hit.id, hit.metadata) == (chunk.id, chunk.metadata_)
        (again,) = docs.search(np.asarray(chunk.embedding, dtype=np.float32), k=1)
        assert hit.id == again.id
        assert again.score == pytest.approx(1, abs=1e-3)
    engine.dispose()
