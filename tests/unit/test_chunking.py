from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer, models, pre_tokenizers

from embedfleet_producer.chunking import Chunker, PreparedChunk, settled
from embedfleet_producer.cutting import Cutter
from embedfleet_producer.graphemes import grapheme_end, grapheme_start
from embedfleet_producer.ruler import Ruler
from embedfleet_producer.tokens import Cl100kCounter, FileCounter, TokenCounter, counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.types import Chunk, Chunking, Space

# Each is what a reader takes for one character, or several that may be parted between clusters
# only where CLUSTERS says so; none of them melts into its neighbours.
CLUSTERS = [
    "👨‍👩‍👧‍👦",
    "🇩🇪",
    "👍🏽",
    "❤️‍🔥",
    "e\u0301",
    "Z̯̯̯",
    "각",
    "1️⃣",
    "नि",
    "漢",
    "ש",
    "م",
    "a",
    ".",
    "\u00a0",
]
PLAIN = [
    "hello ",
    "world. ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " ",
    "\x1c",
    "\u2003",
    "x" * 120,
    "שלום ",
    "مرحبا ",
]
MARKUP = [
    "# Title\n",
    "- item\n",
    "```\n",
    "    code\n",
    "|a|b|\n",
    "> quote\n",
    "**b**",
    "[x](y)",
    "---\n",
]
TEXTS = st.lists(st.sampled_from(CLUSTERS + PLAIN + MARKUP), max_size=60)
MODES = st.sampled_from(["text", "markdown"])
SIZES = st.sampled_from([(3, 0), (8, 0), (8, 3), (30, 0), (30, 8)])
TOKENIZERS = st.sampled_from(["bert", "bytes", "marked", "cl100k"])


@cache
def counter(kind: str) -> TokenCounter:
    """BERT's own; OpenAI's; one token per byte; one per character, with a mark put in front."""
    if kind == "cl100k":
        return Cl100kCounter()
    if kind == "bert":
        return counter_for(resolve_space("all-MiniLM-L6-v2"), Chunking())
    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({mark: n for n, mark in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer = Tokenizer(models.BPE({"<unk>": 0, "▁": 1}, [], unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return FileCounter(tokenizer)


@cache
def chunker(kind: str = "bert", size: int = 0, overlap: int = 0, **space: object) -> Chunker:
    described = {"max_tokens": 256} | space
    whole = Space("local", kind, 384, **described)
    return Chunker(whole, Chunking(size, overlap), counter(kind))


def tokens(kind: str, texts: list[str]) -> list[int]:
    return [reading.tokens for reading in counter(kind).read(texts)]


def check(text: str, chunks: list[PreparedChunk], kind: str, size: int) -> None:
    covered: set[int] = set()
    counted = tokens(kind, [prepared.chunk.content for prepared in chunks])
    for prepared, expected in zip(chunks, counted, strict=True):
        chunk = prepared.chunk
        assert chunk.content == text[chunk.start : chunk.end]
        assert chunk.content
        assert chunk.content == chunk.content.strip()
        assert prepared.tokens == expected
        assert prepared.tokens <= size or len(chunk.content) == 1
        covered.update(range(chunk.start, chunk.end))
    assert not [n for n, mark in enumerate(text) if not mark.isspace() and n not in covered]
    assert [chunk.chunk.start for chunk in chunks] == sorted(chunk.chunk.start for chunk in chunks)


@settings(max_examples=300)
@given(TEXTS, MODES, SIZES, TOKENIZERS, st.sampled_from([1, 30]))
def test_chunks_hold_their_offsets_cover_the_text_and_fit(pieces, mode, sizes, kind, times):
    text = "".join(pieces) * times
    check(text, chunker(kind, *sizes).chunk_many([text], [mode])[0], kind, sizes[0])


def test_words_that_are_too_long_to_be_read_come_in_order_where_chunks_overlap():
    text = ("\u00a0" + "x" * 120) * 30
    check(text, chunker("bert", 8, 3).chunk_many([text], ["text"])[0], "bert", 8)


@settings(max_examples=200)
@given(st.text(max_size=400), MODES, SIZES, TOKENIZERS)
def test_chunks_of_any_text_hold_their_offsets_cover_it_and_fit(text, mode, sizes, kind):
    check(text, chunker(kind, *sizes).chunk_many([text], [mode])[0], kind, sizes[0])


@settings(max_examples=300)
@given(TEXTS, MODES, SIZES, TOKENIZERS, st.sampled_from([1, 30]))
def test_no_character_of_a_reader_is_cut_where_it_fits(pieces, mode, sizes, kind, times):
    pieces = [
        p for piece in pieces for p in ([piece] if piece in CLUSTERS else list(piece))
    ] * times
    text = "".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    owner = [n for n, piece in enumerate(pieces) for _ in piece]

    for chunk in chunker(kind, *sizes).chunk(text, mode):
        for cut in {chunk.start, chunk.end} - {0, *ends}:
            assert tokens(kind, [pieces[owner[cut]]])[0] > sizes[0]


def test_windows_do_not_show_in_where_a_book_is_cut():
    paragraphs = (f"Paragraph {n}. " + "It has some words. " * (n % 9) for n in range(400))
    text = "\n\n".join(paragraphs)
    splitter = TextSplitter.from_huggingface_tokenizer(counter("bert").tokenizer, 30)

    assert splitter.chunk_indices(text) == [
        (chunk.start, chunk.content) for chunk in chunker("bert", 30).chunk(text)
    ]


def test_offsets_count_characters_and_not_bytes():
    text = "👨‍👩‍👧‍👦 é. " * 40
    first, second, *_ = chunker("bytes", 60).chunk(text)

    assert (0, "👨‍👩‍👧‍👦 é. 👨‍👩‍👧‍👦 é.") == (first.start, first.content)
    assert text.index("👨", first.end) == second.start


def test_a_text_that_fits_is_one_chunk_without_its_margins():
    expected = [PreparedChunk(Chunk("Hello, world", 2, 14), 3)]

    assert [expected] == chunker().chunk_many([" \nHello, world \n\n"])


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\u2003", " " * 100_000])
def test_whitespace_alone_gives_no_chunk(text):
    assert chunker().chunk_many([text, "word", text])[0::2] == [[], []]


def test_many_texts_get_the_chunks_that_each_gets_alone():
    texts = ["short", "", "One sentence. " * 400, "# Head\n\ntext\n" * 200, " x " * 3_000]
    modes = ["text", "text", None, "markdown", "markdown"]
    together = chunker(size=50).chunk_many(texts, modes)

    assert together == [
        chunker(size=50).chunk_many([text], [mode])[0]
        for text, mode in zip(texts, modes, strict=True)
    ]


def test_markdown_is_cut_at_its_headings():
    text = "# One\n\nalpha beta gamma delta\n\n# Two\n\nalpha beta gamma delta\n"

    assert ["# One\n\nalpha beta gamma delta", "# Two\n\nalpha beta gamma delta"] == [
        chunk.content for chunk in chunker(size=8).chunk(text, "markdown")
    ]


def test_a_window_that_ends_in_code_does_not_hide_the_headings_behind_it():
    code = "```\n" + "x = 1\n" * 40 + "```\n\n"
    text = "".join(f"# Part {n}\n\n{'Some words here. ' * 9}\n\n{code}" for n in range(40))
    parts = [n for n in range(len(text)) if text.startswith("# Part", n)]

    starts = {chunk.start for chunk in chunker(size=60).chunk(text, "markdown")}
    assert set(parts) <= starts


def test_overlapping_chunks_share_their_ends():
    chunks = chunker(size=20, overlap=5).chunk("one two three four five. " * 40)

    assert all(after.start < before.end for before, after in pairwise(chunks))


def test_indented_code_with_overlap_is_cut_like_other_markdown():
    text = "é```\n\t\xa0bb\n---" * 30

    check(text, chunker("bytes", 8, 2).chunk_many([text], ["markdown"])[0], "bytes", 8)


def test_a_text_that_the_splitter_fails_on_is_cut_without_it_and_spares_its_neighbours(monkeypatch):
    fragile = Cutter(counter("bytes"), size=8, overlap=2)
    splitter = MarkdownSplitter.from_huggingface_tokenizer(counter("bytes").tokenizer, 8, 2)
    monkeypatch.setattr(fragile, "_splitter", lambda ruler, mode: splitter)
    bad, good = "é```\n\t\xa0bb\n---", "alpha beta gamma"
    with pytest.raises(BaseException, match="Invalid byte sequence"):
        splitter.chunk_indices(bad)

    cut, neighbour = fragile.cut([bad, good], ["markdown", "markdown"])
    prepared = [PreparedChunk(Chunk(bad[a:b], a, b), tokens) for a, b, tokens, _ in cut]
    check(bad, prepared, "bytes", 8)
    assert ["alpha", "beta", "gamma"] == [good[a:b] for a, b, *_ in neighbour]


def test_an_interrupt_while_the_splitter_asks_is_no_fault_of_the_splitter(monkeypatch):
    def interrupt(ruler, piece):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ruler, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        chunker(size=8).chunk("Some words. " * 50)


HOSTILE = {
    "one word": lambda times: "a" * 200_000 * times,
    "one line of emoji": lambda times: "👨‍👩‍👧‍👦" * 10_000 * times,
    "one endless character": lambda times: "e" + "\u0301" * 100_000 * times,
    "one paragraph": lambda times: "word, " * 6_000 * times + "\nend",
}


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("mode", ["text", "markdown"])
def test_a_hostile_text_is_cut_in_a_time_that_grows_with_its_length(mode, kind, times):
    text = HOSTILE[kind](times)
    check(text, chunker().chunk_many([text], [mode])[0], "bert", 254)


@pytest.mark.parametrize("mark", ["漢", "e\u0301", "🇩🇪", "👍🏽"])
def test_a_long_text_without_spaces_is_cut_between_characters(mark):
    text = mark * 10_000
    chunks = chunker("bytes", 100).chunk_many([text])[0]

    check(text, chunks, "bytes", 100)
    assert {0} == {chunk.chunk.start % len(mark) for chunk in chunks}


def test_the_size_that_nobody_chose_is_400_or_what_the_model_takes():
    assert settled(Space("fake", "8", 8, 512), Chunking(overlap=5)) == Chunking(400, 5)
    assert settled(resolve_space("all-MiniLM-L6-v2"), Chunking()) == Chunking(254)
    assert settled(Space("fake", "8", 8, 512), Chunking(0)) == Chunking(0)


def test_size_zero_is_what_the_model_takes_beside_special_tokens_and_prompt():
    assert chunker().size == 254
    assert chunker(document_prompt="search document: ").size == 251
    assert chunker("bytes").size == 256
    assert chunker(size=100, document_prompt="search document: ").limit == 251


@pytest.mark.parametrize(
    ("chunking", "reason"),
    [
        (Chunking(size=255), "size 255 is more than the 254 tokens .* choose 254 or less"),
        (Chunking(size=-1), "from 0 to"),
        (Chunking(overlap=-1), "from 0 to"),
        (Chunking(size="5"), "whole numbers"),
        (Chunking(overlap=1.5), "whole numbers"),
        (Chunking(size=10, overlap=10), "overlap 10 is not smaller than size 10: choose 0 to 9"),
        (Chunking(overlap=254), "overlap 254 is not smaller than size 254"),
        (Chunking(mode="html"), "mode 'html' is not one of text, markdown"),
        (Chunking(too_long="drop"), "too_long 'drop' is not one of reject, truncate, split"),
    ],
)
def test_a_chunking_that_cannot_work_is_refused(chunking, reason):
    with pytest.raises(BadChunking, match=reason):
        Chunker(Space("local", "x", 384, 256), chunking, counter("bert"))


space_of = cache(resolve_space)


@settings(max_examples=150, deadline=None)
@given(
    TEXTS | st.lists(st.characters(exclude_categories=["Cs"]), max_size=60),
    MODES,
    st.none() | st.integers(0, 40),
    st.integers(0, 40),
    st.integers(3, 60),
    st.sampled_from(["all-MiniLM-L6-v2", "openai/text-embedding-3-small", "fake/8"]),
)
def test_whatever_chunking_is_accepted_cuts_any_text_to_its_size(
    pieces, mode, size, overlap, takes, model
):
    space = replace(space_of(model), max_tokens=takes)
    try:
        chunking = settled(space, Chunking(size, overlap, mode))
    except BadChunking:
        return
    cut = Chunker(space, chunking, counter_for(space, chunking))

    for chunk in cut.chunk_many(["".join(pieces) * 9])[0]:
        assert chunk.tokens <= (chunking.size or takes)


def test_a_size_below_what_a_single_character_has_is_refused():
    with pytest.raises(BadChunking, match=r"size 3 is less than the 4 tokens .* choose 4 to 8191"):
        settled(resolve_space("openai/text-embedding-3-small"), Chunking(3))


def test_a_prompt_that_fills_the_model_is_refused():
    with pytest.raises(BadChunking, match="prompt leaves no room in local/bert"):
        chunker(document_prompt="word " * 254)


def test_ready_made_chunks_are_counted_over_all_documents():
    documents = [["one two", Chunk("three"), " "], [], [Chunk("four five six")]]

    assert [[2, 1], [], [3]] == [
        [prepared.tokens for prepared in chunks] for chunks in chunker().prepare(documents)
    ]


@pytest.mark.parametrize(
    "cluster",
    [c for c in CLUSTERS if len(c) > 1]
    + ["\r\n", "\u1100\u1161\u11a8", "🏴\U000e0067\U000e0062\U000e007f"],
)
@pytest.mark.parametrize("before", ["", "a", " ", "🇫🇷", "각"])
def test_a_cluster_may_be_cut_only_at_its_ends(before, cluster):
    text = before + cluster + "z"
    start, end = len(before), len(before) + len(cluster)

    assert {start} == {grapheme_start(text, place) for place in range(start, end)}
    assert {end} == {grapheme_end(text, place) for place in range(start + 1, end + 1)}


def test_endless_marks_and_flags_are_cut_anywhere():
    assert grapheme_start("e" + "\u0301" * 500, 300) == 300
    assert grapheme_start("🇩" * 5_001, 4_001) == 4_001
