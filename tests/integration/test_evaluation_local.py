"""A real model beside itself in fewer dimensions, and two sizes of chunks."""

import pytest

import embedfleet as ef
from embedfleet.evaluation.plot import write_svg

pytestmark = pytest.mark.torch

MODEL = "all-MiniLM-L6-v2"
TEXTS = {
    "bread": "The baker kneads dough with flour and salt, and lets it rise near the warm oven.",
    "storm": "Sailors reef the canvas before a storm, while waves break over the bow of the ship.",
    "compiler": "A compiler turns source code into machine instructions and reports every error.",
    "music": "In the orchestra two violins and an oboe repeat the slow theme of the movement.",
    "glacier": "Glaciers carve deep valleys, carry boulders to the plain and melt into cold lakes.",
    "tax": "The invoice is due within thirty days; interest is charged on what is paid late.",
}
FILLER = " Something else is said here as well, which is of no use to anybody who asks."
QUERIES = {
    "bread": "how to make a loaf",
    "storm": "a boat in bad weather",
    "compiler": "translating a program",
    "music": "a symphony concert",
    "glacier": "ice that shapes mountains",
    "tax": "when do I have to pay",
}
QRELS = {key: {key: 1} for key in QUERIES}


def test_a_model_in_fewer_dimensions_and_two_sizes_of_chunks(fleet, embedding, tmp_path, caplog):
    docs = fleet.collection("docs", MODEL, dimensions=128)
    assert "cut to 128 of 384 dimensions, and its files do not say" in caplog.text
    docs.enqueue(ef.Document(key, text + FILLER * 3) for key, text in TEXTS.items()).wait()
    own = docs.eval(QUERIES, QRELS)
    assert own.mrr > 0.9
    found = docs.compare([MODEL, f"{MODEL}@128"], [24, 200], QUERIES, QRELS)
    assert [(384, 24), (384, 200), (128, 24), (128, 200)] == [
        (each.dimensions, each.size) for each in found
    ]
    assert all(each.evaluation.mrr > 0.8 for each in found)
    assert found[0].chunks == found[2].chunks > found[1].chunks == found[3].chunks == 6
    # The same documents, cut and embedded as those of the collection.
    assert own.ndcg == pytest.approx(found[3].evaluation.ndcg, abs=1e-6)
    write_svg(plot := tmp_path / "plot.svg", found)
    assert "local/all-MiniLM-L6-v2, 128 dimensions" in plot.read_text()
    assert ["docs"] == [each.name for each in fleet.collections()]
