"""What pgai made and its worker filled moves in: the same hits, and nothing is embedded."""

import json
import re

import numpy as np
import psycopg
import pytest

from embedfleet.pgai import Wanted, take_over
from plugins.fleets import ask

INSTALL = """
import os
import pgai

pgai.install(os.environ["EMBEDFLEET_DATABASE_URL"])
"""
# The table of pgai's guide, with posts of our own.
BLOG = """
CREATE TABLE blog (
    id serial PRIMARY KEY, title text, authors text, contents text, metadata jsonb
);
SELECT ai.create_vectorizer(
    'blog'::regclass, name => 'posts', loading => ai.loading_column('contents'),
    destination => ai.destination_table('blog_embeddings'),
    embedding => ai.embedding_openai('text-embedding-3-small', 256),
    chunking => ai.chunking_character_text_splitter(80, 10, ' '),
    formatting => ai.formatting_python_template('$title: $chunk')
);
SELECT ai.create_vectorizer(
    'blog'::regclass, name => 'titles', loading => ai.loading_column('title'),
    destination => ai.destination_column('title_vector'),
    embedding => ai.embedding_openai('text-embedding-3-small', 256),
    chunking => ai.chunking_none(),
    formatting => ai.formatting_python_template('$chunk by $authors')
);
SELECT ai.create_vectorizer(
    'blog'::regclass, name => 'whole', loading => ai.loading_column('contents'),
    destination => ai.destination_table('blog_whole'),
    embedding => ai.embedding_openai('text-embedding-3-small', 256),
    chunking => ai.chunking_none()
);
"""
SUBJECTS = ("PostgreSQL", "vectors", "queues", "workers", "search", "chunks")
DONE = ("_vectorizer_q_1", "_vectorizer_q_2", "_vectorizer_q_3")


def vector_of(text):
    """The vector that pgai's worker got for a text, as it were: unit length, by the text alone."""
    seed = np.frombuffer(text.encode().ljust(4, b"\0")[:4], dtype="<u4")[0] + len(text)
    drawn = np.random.default_rng(seed).normal(size=256).astype(np.float32)
    return json.dumps((drawn / np.linalg.norm(drawn)).tolist())


@pytest.fixture
def blog(fleet, library_example, tmp_path):
    """pgai in the fleet's database, with forty posts that its worker has embedded."""
    (tmp_path / "install.py").write_text(INSTALL)
    library_example("pgai", tmp_path / "install.py")
    url = fleet.settings.database
    with psycopg.connect(url) as conn:
        conn.execute("SET search_path TO public")
        conn.execute(BLOG)
        for number in range(40):
            subject = SUBJECTS[number % len(SUBJECTS)]
            contents = " ".join([f"Post {number} is about {subject}."] * (1 + number % 4))
            conn.execute(
                "INSERT INTO blog (title, authors, contents, metadata) VALUES (%s, %s, %s, %s)",
                (f"On {subject} {number}", "A. Writer", contents, '{"lang": "en"}'),
            )
        work(conn)
    return url


def work(conn):
    """What pgai's worker does with what is in its queues."""
    rows = conn.execute("SELECT id, title, authors, contents FROM blog").fetchall()
    for store in ("blog_embeddings_store", "blog_whole_store"):
        conn.execute(f"DELETE FROM {store}")
    for number, title, authors, contents in rows:
        chunks = [f"{title}: {piece}" for piece in re.findall(r".{1,80}(?:\s|$)", contents)]
        for store, texts in (("blog_embeddings_store", chunks), ("blog_whole_store", [contents])):
            for seq, text in enumerate(texts):
                conn.execute(
                    f"INSERT INTO {store} (id, chunk_seq, chunk, embedding)"
                    " VALUES (%s, %s, %s, %s)",
                    (number, seq, text, vector_of(text)),
                )
        conn.execute(
            "UPDATE blog SET title_vector = %s WHERE id = %s",
            (vector_of(f"{title} by {authors}"), number),
        )
    for queue in DONE:
        conn.execute(f"DELETE FROM ai.{queue}")


def nearest_in_pgai(url, view, embedding, vector):
    statement = (
        f"SELECT id::text, chunk FROM {view} ORDER BY {embedding} <=> %s::vector, id LIMIT 10"
    )
    with psycopg.connect(url) as conn:
        conn.execute("SET search_path TO public, embedfleet")
        return conn.execute(statement, (vector,)).fetchall()


def test_its_vectors_find_the_same_and_nothing_is_embedded(fleet, blog):
    posts, titles, whole = take_over(fleet, blog)
    assert [None] * 3 == [each.refused for each in (posts, titles, whole)]
    assert "openai/text-embedding-3-small" == posts.model
    views = {"posts": ("blog_embeddings", "embedding"), "whole": ("blog_whole", "embedding")}
    for name, view in views.items():
        for question in ("what is a queue?", "search", "On vectors 7: Post 7"):
            vector = vector_of(question)
            hits = fleet.collection(name).search(json.loads(vector), k=10)
            found = [(hit.document, hit.content) for hit in hits]
            assert nearest_in_pgai(blog, *view, vector) == found
    (hit,) = fleet.collection("titles").search(
        json.loads(vector_of("On queues 2 by A. Writer")), k=1
    )
    assert ("3", "On queues 2 by A. Writer", 1.0) == (hit.document, hit.content, hit.score)
    assert [] == ask(fleet, "SELECT id FROM embedfleet.batch")
    for name in ("posts", "titles", "whole"):
        assert fleet.collection(name).audit().clean
    again = [each.enqueued for each in take_over(fleet, blog)]
    assert [(0, 40, 0)] * 3 == [(each.documents, each.unchanged, each.imported) for each in again]


def test_what_does_not_come_along_is_said(fleet, blog):
    posts, titles, whole = take_over(fleet, blog, dry_run=True)
    assert [] == fleet.collections()
    said = "\n".join(posts.not_taken)
    assert "chunker character_text_splitter (80 characters, overlap 10)" in said
    assert "template '$title: $chunk'" in said
    assert (40, 40) == (titles.documents, titles.chunks)
    assert [] == whole.not_taken
    command = "embedfleet sync create whole --table public.blog --key id --text contents"
    assert f"{command} --metadata title,authors,metadata" == whole.sync


def test_a_sync_of_whole_texts_would_embed_nothing_again(fleet, blog):
    (posts,) = take_over(fleet, blog, names=["posts"])
    (whole,) = take_over(fleet, blog, names=["whole"])
    assert 40 == posts.to_embed
    assert 0 == whole.to_embed


def test_a_row_that_changed_since_is_not_taken_with_the_vector_of_its_former_text(fleet, blog):
    with psycopg.connect(blog) as conn:
        conn.execute("UPDATE public.blog SET title = 'Another title' WHERE id = 3")
    (titles,) = take_over(fleet, blog, names=["titles"])
    assert (39, 39, 1) == (titles.documents, titles.enqueued.imported, titles.waiting)
    assert "3" not in {each.key for each in fleet.collection("titles").documents()}
    with psycopg.connect(blog) as conn:
        conn.execute("SET search_path TO public")
        work(conn)
    (titles,) = take_over(fleet, blog, names=["titles"])
    assert (1, 39) == (titles.enqueued.documents, titles.enqueued.unchanged)


def test_columns_are_chosen_for_the_metadata(fleet, blog):
    wanted = Wanted("mine", metadata=("authors",))
    (posts,) = take_over(fleet, blog, names=["posts"], wanted=wanted)
    assert "mine" == posts.collection
    (hit,) = fleet.collection("mine").search(json.loads(vector_of("x")), k=1)
    assert {"authors": "A. Writer"} == hit.metadata
