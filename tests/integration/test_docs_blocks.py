"""Each block of commands, Python and SQL in the documents is run, or its program has a reason."""

from typing import Any

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from plugins.documents import DOCUMENTS, ROOT, blocks
from plugins.fleets import drain
from plugins.followed_pages import MODEL, Reader, known_names
from plugins.worker_processes import eventually

pytestmark = pytest.mark.docs

RUN = ("sql", "python", "sh")
# Pages that begin with nothing but the servers.
FROM_NOTHING = ("README.md", "docs/getting-started.md")
ABOUT_SQL = ("docs/sql-cookbook.md", "docs/operations.md")
PAGES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS if any(blocks(path, *RUN))]
ITERATIVE = "SET LOCAL hnsw.iterative_scan = relaxed_order;"
POISON = "a text that no model takes"


def fill(fleet: Fleet, worker: Any) -> None:
    """What the pages speak of: documents, failures, what waits, a provider batch."""
    docs = fleet.collection("handbook", model=MODEL)
    docs.enqueue(
        [
            ef.Document(
                "vpn.md",
                chunks=["Reset the password of the VPN.", "Log in again.", "Call the desk."],
                metadata={"lang": "en", "team": "it"},
            ),
            ef.Document("leave.md", "Ask for holidays.", {"lang": "en", "team": "people"}),
            ef.Document("urlaub.md", "Urlaub wird beantragt.", {"lang": "de", "team": "people"}),
            ef.Document("bad.md", POISON),
            ef.Document("people/example.md", "Somebody who wants to be forgotten."),
            ef.Document("people/other.md", "Somebody else who does."),
            ef.Document("empty.md", " "),
        ]
    )
    drain(worker(fake_faults=f"poison={POISON}"))
    docs.enqueue([ef.Document("waiting.md", "This one waits for a worker.")])
    with fleet.db.transaction() as conn:
        insert = "INSERT INTO embedfleet.provider_batch (space_id, state) VALUES (%s, 'done')"
        conn.execute(insert, (docs.info.space_id,))
    eventually(fleet.workers)


def follow(reader: Reader, page: str) -> None:
    for block in blocks(ROOT / page, *RUN):
        reader.follow(block)


@pytest.mark.parametrize("page", FROM_NOTHING)
def test_a_page_can_be_followed_from_nothing(reader, embedding, page):
    follow(reader, page)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FROM_NOTHING])
def test_a_page_can_be_followed_with_a_collection(reader, fleet, worker, request, page):
    fill(fleet, worker)
    if page not in ABOUT_SQL:
        request.getfixturevalue("embedding")
    reader.names |= known_names(fleet)
    follow(reader, page)
