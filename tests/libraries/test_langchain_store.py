"""A collection as a vector store passes the tests that LangChain has for stores, all of them."""

import re

from plugins.documents import ROOT


def test_the_store_is_one_of_langchain(api_fleet, library_example):
    with api_fleet().working(processes=1, slots=1):
        said = library_example("langchain", ROOT / "tests" / "libraries" / "langchain_store.py")
    # Each of them, and none is skipped.
    assert re.search(r"^\d+ passed(, \d+ warnings?)? in ", said, re.MULTILINE), said
