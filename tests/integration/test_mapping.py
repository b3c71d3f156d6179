"""`embedfleet map`: the chunks of a collection as points on a page."""

import pytest

import embedfleet as ef
from embedfleet_schema.errors import BadFilter
from embedfleet_schema.store.samples import points
from plugins.fleets import drain


@pytest.fixture(params=["vector", "halfvec"])
def docs(request, fleet, worker):
    docs = fleet.collection("docs", model="fake/16", storage=request.param)
    texts = [ef.Document(f"d{n}", f"text {n}", {"of": {"n": n}}) for n in range(12)]
    docs.enqueue([*texts, ef.Document("bad", "poison pill")])
    drain(worker(fake_faults="poison=poison pill"))
    docs.enqueue([ef.Document("d0", "not embedded yet"), ef.Document("draft", "neither")])
    return docs


def test_the_points_are_the_chunks_that_a_search_finds(fleet, docs):
    found, vectors, total = points(fleet.db, docs.info, field="$.of.n", limit=100, characters=5)
    assert (12, 12, (12, 16)) == (total, len(found), vectors.shape)
    assert {(f"d{n}", n, "text ") for n in range(12)} == {
        (each.document, each.value, each.beginning) for each in found
    }
    for each, vector in zip(found, vectors, strict=True):
        assert each.document == docs.search(vector, k=1)[0].document
    few, _, total = points(fleet.db, docs.info, field="", limit=5, characters=5)
    assert (12, 5, {None}) == (total, len(few), {each.value for each in few})
    assert {each.document for each in few} < {each.document for each in found}
    with pytest.raises(BadFilter, match="is no path"):
        points(fleet.db, docs.info, field="$.a.", limit=5, characters=5)


def test_from_the_command_line(docs, command, tmp_path):
    file = tmp_path / "map.html"
    answer = command("map", "docs", "-o", file, "--color", "$.of.n", "--points", 10)
    assert f"{file}: 10 of 12 chunks" in answer.out
    assert "The others were left out at random" in answer.err
    content = file.read_text()
    assert "docs: 10 of 12 chunks, fake/16, tsne" in content
    assert "$.of.n: " in content
    answer = command("map", "docs", "-o", file, "--color", "nothing", "--method", "pca", "--json")
    assert {"file": str(file), "points": 12, "of": 12, "method": "pca"} == answer.json
    assert 2 == command("map", "docs", "--points", 50_001).code
    answer = command("map", "docs", "-o", tmp_path / "gone" / "map.html")
    assert (2, True) == (answer.code, "there is no" in answer.err)


def test_an_empty_collection_has_no_map(fleet, command):
    fleet.collection("empty", model="fake/16")
    assert "has no embedded chunks" in command("map", "empty").err
