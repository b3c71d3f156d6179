"""Tables that collections follow: made, filled, and held against what readers see of them."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from embedfleet.fleet import Fleet
from embedfleet.sync import Sync
from plugins.fleets import ask

ARTICLES = """
CREATE TABLE public.articles (
    id int PRIMARY KEY, title text, body text, lang text, published timestamptz, views int
)
"""
FOLLOWED: dict[str, Any] = {
    "table": "public.articles",
    "key": "id",
    "text": ["title", "body"],
    "metadata": ["lang", "published"],
}
ROWS = """
INSERT INTO public.articles (id, title, body, lang, published)
SELECT n, 'title ' || n, 'body ' || n, 'en', '2026-01-02 03:04:05+00'
FROM generate_series(%s::int, %s::int) AS n
"""


@pytest.fixture
def articles(fleet: Fleet) -> Sync:
    """A collection that follows a table with five rows, and has not read them yet."""
    ask(fleet, ARTICLES)
    ask(fleet, ROWS, 1, 5)
    return fleet.sync("articles", "fake/16", **FOLLOWED)


def run(fleet: Fleet, script: str) -> None:
    """Statements of another program, which has its own search path."""
    with psycopg.connect(fleet.settings.direct_database) as conn:
        conn.execute(script.encode())


def seen(fleet: Fleet, name: str = "articles") -> dict[str, tuple[str, Any]]:
    """What readers see, by key: text and metadata."""
    view = sql.SQL("SELECT document, content, metadata FROM embedfleet.{} ORDER BY 1, position")
    with fleet.db.transaction() as conn:
        rows = conn.execute(view.format(sql.Identifier(name))).fetchall()
    return {key: (content, metadata) for key, content, metadata in rows}


def texts(fleet: Fleet, name: str = "articles") -> dict[str, str]:
    return {key: text for key, (text, _) in seen(fleet, name).items()}


def in_table(fleet: Fleet) -> dict[str, str]:
    """What readers should see of the articles."""
    rows = ask(fleet, "SELECT id::text, title, body FROM public.articles")
    return {key: "\n\n".join(part for part in (title, body) if part) for key, title, body in rows}
