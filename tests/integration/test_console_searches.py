"""A search on a page of the console, by a model that has to be loaded: a worker answers."""

import pytest

from embedfleet_schema.types import Document
from plugins.consoles import client_of
from plugins.fleets import drain
from plugins.worker_processes import eventually

pytestmark = pytest.mark.torch


def test_a_warm_worker_embeds_what_is_searched_for_and_the_console_loads_nothing(fleet, worker):
    portal = fleet.collection("portal", model="all-MiniLM-L6-v2")
    portal.enqueue([Document("vpn.md", "Reset the password in the portal.")])
    address = "/console/collections/portal/search"
    with client_of(fleet) as client:
        alone = client.get(address, params={"q": "a password"})
        assert (503, True) == (alone.status_code, "No worker embedded the query" in alone.text)
        drain(worker())
        eventually(fleet.workers)
        answered = client.get(address, params={"q": "how do I reset my password?"})
    assert (200, True) == (answered.status_code, "vpn.md" in answered.text)
    assert fleet._cache is None
