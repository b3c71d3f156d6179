"""The docstrings of the standard library, read as documents."""

import sys
from pathlib import Path

import pytest

from embedfleet.stdlib_docs import CHARACTERS_PER_CHUNK, LEFT_OUT, WELL_KNOWN, documents
from embedfleet_schema.errors import LibraryMissing


@pytest.fixture(scope="module")
def everything():
    return documents()


@pytest.fixture(scope="module")
def usual():
    return documents(1_000)


def by_key(found):
    return {document.key: document for document in found}


def library(folder: Path, modules: dict[str, str]) -> Path:
    for name, source in modules.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder


def test_every_key_is_unique_and_every_text_says_more_than_its_heading(everything):
    assert len(everything) == len(by_key(everything))
    assert [] == [document.key for document in everything if "\n\n" not in document.text]
    assert [] == [document.key for document in everything if "\0" in document.text]


def test_the_documents_come_in_the_order_of_their_keys_and_the_same_each_time(everything):
    keys = [document.key for document in everything]
    assert sorted(keys) == keys
    assert everything == documents()


def test_a_method_is_found_with_its_signature_and_its_metadata(everything):
    found = by_key(everything)["zipfile.ZipFile.extract"]
    assert found.text.startswith("zipfile.ZipFile.extract(self, member, path=None, pwd=None)\n\n")
    assert {"module": "zipfile", "kind": "function"} == found.metadata


def test_modules_and_classes_say_what_they_are(everything):
    found = by_key(everything)
    assert found["json"].text.startswith("module json\n\nJSON (JavaScript Object Notation)")
    assert found["zipfile.ZipFile"].text.startswith("class zipfile.ZipFile\n\n")
    assert ["module", "class"] == [
        found[key].metadata["kind"] for key in ("json", "zipfile.ZipFile")
    ]


def test_what_private_modules_hold_is_found_under_the_public_name(everything):
    found = by_key(everything)
    assert "datetime.datetime.fromisoformat" in found
    assert "concurrent.futures.Future.result" in found
    assert "os.path.join" in found


def test_a_public_module_speaks_before_a_private_one_that_it_stands_for(tmp_path):
    sources = library(tmp_path, {"_pyio": '"""Private."""', "io": '"""Public."""'})
    assert ["module io\n\nPublic."] == [document.text for document in documents(library=sources)]


def test_nothing_private_deprecated_or_foreign_is_among_them(everything):
    for document in everything:
        names = document.key.split(".")
        assert names[0] in sys.stdlib_module_names
        assert LEFT_OUT.isdisjoint(document.metadata["module"].split("."))
        assert [] == [name for name in names if name.startswith("_") and name != "__init__"]


def test_a_selection_makes_about_as_many_chunks_as_are_asked_for(everything, usual):
    whole = by_key(everything)
    for wanted, chosen in ((1, documents(1)), (1_000, usual)):
        chunks = sum(-(-len(document.text) // CHARACTERS_PER_CHUNK) for document in chosen)
        assert wanted <= chunks < wanted + 20
        assert all(whole[document.key] == document for document in chosen)
        assert sorted(by_key(chosen)) == [document.key for document in chosen]


def test_a_selection_takes_from_every_well_known_module(everything, usual):
    has = {document.key.partition(".")[0] for document in everything}
    chosen = {document.key.partition(".")[0] for document in usual}
    assert {name for name in WELL_KNOWN if name in has} <= chosen


def test_the_usual_selection_holds_what_the_questions_of_the_demo_ask_for(usual):
    chosen = by_key(usual)
    for key in (
        "zipfile.ZipFile.read",
        "datetime.datetime.strptime",
        "shutil.disk_usage",
        "shutil.copytree",
        "random.Random.shuffle",
        "subprocess.check_output",
        "csv",
        "json.loads",
    ):
        assert key in chosen


def test_a_selection_goes_on_with_other_modules_when_the_well_known_ones_are_through(tmp_path):
    sources = library(
        tmp_path,
        {
            "json": '"""First."""\ndef load(x):\n    """Second."""',
            "aaa": '"""No module of the library."""',
            "wave": '"""Third."""',
        },
    )
    assert ["json", "json.load", "wave"] == [each.key for each in documents(3, library=sources)]
    assert ["json", "json.load"] == [each.key for each in documents(2, library=sources)]
    assert ["json"] == [each.key for each in documents(1, library=sources)]


def test_definitions_behind_a_condition_are_found_and_the_first_docstring_counts(tmp_path):
    source = """
try:
    import fast
except ImportError:
    def slow(a, *, b=1):
        "In pure Python."
if 1:
    class Both:
        "Of one system."
        async def go(self):
            "An async method."
else:
    class Both:
        "Of another system."
    def only():
        "In the other branch."
def without(): pass
def outer():
    "Seen."
    def inner():
        "Not reachable."
"""
    found = by_key(documents(library=library(tmp_path, {"json": source})))
    expected = ["json.Both", "json.Both.go", "json.only", "json.outer", "json.slow"]
    assert expected == sorted(found)
    assert "class json.Both\n\nOf one system." == found["json.Both"].text
    assert "json.slow(a, *, b=1)\n\nIn pure Python." == found["json.slow"].text


def test_odd_escapes_in_a_source_are_no_warning(tmp_path):
    source = "def f():\n    'A \\d pattern.'"
    (found,) = documents(library=library(tmp_path, {"re": source}))
    assert "re.f()\n\nA \\d pattern." == found.text


def test_the_sources_of_a_package_carry_its_name(tmp_path):
    sources = library(
        tmp_path,
        {
            "json/__init__": '"""The package."""',
            "json/decoder": '"""A part."""',
            "json/tests/odd": '"""A test."""',
            "json/_hidden": '"""Private."""',
        },
    )
    assert ["json", "json.decoder"] == [document.key for document in documents(library=sources)]


def test_a_library_without_sources_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(LibraryMissing, match="Run this with an ordinary Python"):
        documents(library=tmp_path)
    with pytest.raises(LibraryMissing):
        documents(10, library=tmp_path / "python311.zip")
