"""Counting by offsets does not show in where real documents are cut."""

import re
from importlib.metadata import distributions
from pydoc_data.topics import topics

import pytest
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from embedfleet_producer.cutting import Cutter
from embedfleet_producer.tokens import Cl100kCounter, counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Chunking

# Python's own reference, and what packages say of themselves.
PROSE = [text for _, text in sorted(topics.items()) if len(text) > 2_000][::2]
READMES = sorted(
    {
        str(each.metadata.get_payload() or "")
        for each in distributions()
        if "markdown" in str(each.metadata["Description-Content-Type"])
    }
)[:20]
SENTENCE_END = re.compile(r"""[.!?:;]["')\]*`]*\s|\n""")


class Reference(Cutter):
    """Shows windows to a splitter that tokenises each piece it looks at."""

    def _splitter(self, ruler, mode):
        kind = MarkdownSplitter if mode == "markdown" else TextSplitter
        trim = mode == "text" or self._overlap == 0
        if isinstance(self._counter, Cl100kCounter):
            model = "text-embedding-3-small"
            return kind.from_tiktoken_model(model, self._size, self._overlap, trim)
        tokenizer = self._counter.tokenizer
        return kind.from_huggingface_tokenizer(tokenizer, self._size, self._overlap, trim)


def is_in_a_sentence(text, end):
    return end < len(text) and not SENTENCE_END.search(text[end - 3 : end + 1])


@pytest.mark.parametrize("tokenizer", ["all-MiniLM-L6-v2", "cl100k_base"])
@pytest.mark.parametrize(
    ("mode", "size", "overlap"), [("text", 128, 0), ("text", 200, 20), ("markdown", 128, 0)]
)
def test_real_documents_are_cut_where_the_reference_cuts_them(tokenizer, mode, size, overlap):
    texts = READMES if mode == "markdown" else PROSE
    counter = counter_for(resolve_space("fake/8"), Chunking(tokenizer=tokenizer))
    modes = [mode] * len(texts)
    found = Cutter(counter, size, overlap).cut(texts, modes)
    expected = Reference(counter, size, overlap).cut(texts, modes)

    same = sum(len(set(ours) & set(theirs)) for ours, theirs in zip(found, expected, strict=True))
    assert same >= 0.98 * sum(map(len, expected))
    for text, ours, theirs in zip(texts, found, expected, strict=True):
        within = [sum(is_in_a_sentence(text, span.end) for span in each) for each in (ours, theirs)]
        assert within[0] <= within[1]
