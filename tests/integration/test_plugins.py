"""An embedder that a package of its own brings: from its installation to a search."""

import importlib
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

import embedfleet as ef
from embedfleet.cli import model_diagnosis
from embedfleet_producer import tokens
from embedfleet_schema.catalogue import plugins
from embedfleet_schema.catalogue.space_lookup import parse_model, resolve_space
from embedfleet_schema.errors import BadModelName, ModelRefused
from embedfleet_schema.plugin_errors import PluginBroken, PluginMissing
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Chunking, Document, Space
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.testing.embedder_promises import PROMISES
from plugins.documents import ROOT, blocks
from plugins.installed_packages import installed, installed_from
from plugins.worker_processes import eventually

TEXTS = {"zip": "Read a zip file.", "egg": "Boil an egg for six minutes.", "map": "Draw a map."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return installed("acme_embedder", tmp_path_factory.mktemp("site"))


def _forget():
    importlib.invalidate_caches()
    plugins._found.cache_clear()
    for cached in (tokens._from_plugin, tokens._counter):
        cached.cache_clear()
    for name in [each for each in sys.modules if each.split(".")[0] == "acme_embedder"]:
        del sys.modules[name]


@contextmanager
def package(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        _forget()
        yield
    _forget()


def python(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_package_of_its_own_passes_the_public_suite(folder):
    tests = ROOT / "tests/packages/acme_embedder"
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tests, "-c", os.devnull)
    done = python(folder, *words, tests)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "15 passed" in done.stdout


def test_the_suite_finds_an_embedder_out_that_breaks_its_word(folder, tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["embedfleet.testing"]\n')
    (tmp_path / "test_forgetful.py").write_text(
        "import random\n"
        "import pytest\n"
        "from acme_embedder import Plain\n"
        "from embedfleet.embedders import Space\n"
        "from embedfleet.testing import EmbedderSuite\n\n"
        "class Random(Plain):\n"
        "    def vectors(self, texts, kind):\n"
        "        return [[random.random() - 0.5 for _ in range(8)] for _ in texts]\n\n"
        "@pytest.fixture(scope='module')\n"
        "def embedder():\n"
        "    return Random(Space('acme-plain', '8', 8, 512))\n\n"
        "class TestRandom(EmbedderSuite):\n"
        "    pass\n"
    )
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path)
    done = python(folder, *words, "-c", os.devnull)
    assert 1 == done.returncode, done.stdout + done.stderr
    assert re.search(r"FAILED .*\[rows_follow_the_order_of_the_texts\]", done.stdout)


def test_the_page_about_embedders_is_true_as_it_stands(tmp_path):
    page = ROOT / "docs/embedders.md"
    (project,) = (block.text for block in blocks(page, "toml"))
    program, conftest, tests = (block.text for block in blocks(page, "python"))
    assert 30 >= len(program.splitlines())
    source, written = tmp_path / "source", tmp_path / "tests"
    (source / "src").mkdir(parents=True)
    written.mkdir()
    (source / "pyproject.toml").write_text(project)
    (source / "src/acme_embedder.py").write_text(program)
    (written / "conftest.py").write_text(conftest)
    (written / "test_acme.py").write_text(tests)
    site = installed_from(source, tmp_path / "site")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", written)
    done = python(site, *words, "-c", os.devnull, written)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(PROMISES) + 1} passed" in done.stdout
    assert f"It asks {len(PROMISES) + 1} promises" in page.read_text()


def test_a_class_says_what_its_vectors_are(folder):
    with package(folder):
        assert ("acme", "small") == parse_model("acme/small")
        assert ("local", "acme/small") == parse_model("local/acme/small")
        space = resolve_space("acme/small", dimensions=128, max_tokens=100)
        expected = Space("acme", "small", 128, 100, revision="1", query_prompt="query: ")
        assert expected == space
        with pytest.raises(BadModelName, match="acme has small and large, not tiny"):
            resolve_space("acme/tiny")
        with pytest.raises(BadModelName, match="takes 4096 tokens, not 9000"):
            resolve_space("acme/small", max_tokens=9_000)
        assert ["acme/*"] == load_settings(allowed_models=["acme/*"]).allowed_models
    assert ("local", "acme/small") == parse_model("acme/small")


def test_a_package_that_is_missing_or_broken_or_newer_is_named(folder):
    space = Space("acme", "small", 256, 4_096, revision="1", query_prompt="query: ")
    with pytest.raises(PluginMissing, match="provides 'acme', and it is not installed here"):
        load_embedder(space, device="cpu")
    with package(folder):
        load_embedder(space, device="cpu").close()
        with pytest.raises(PluginBroken, match=r"package acme-embedder .*ModuleNotFoundError"):
            resolve_space("acme-broken/x")
        with pytest.raises(ModelRefused, match="revision '1', not '0'"):
            load_embedder(Space("acme", "small", 256, 4_096, revision="0"), device="cpu")
        with pytest.raises(ModelRefused, match="loads only"):
            load_embedder(space, device="cpu", allowed_models=["local/*"])


def test_doctor_names_the_package_that_is_broken(folder):
    with package(folder):
        levels = {each.found.partition(":")[0]: each.level for each in model_diagnosis.plugins()}
    assert ["ok", "ok", "warning"] == sorted(levels.values())
    assert any("acme-broken" in found for found, level in levels.items() if level == "warning")


def test_nothing_of_a_package_is_imported_before_its_model_is_named(folder):
    program = (
        "import sys\n"
        "from embedfleet.cli import main\n"
        "from embedfleet_schema.catalogue.space_lookup import resolve_space\n"
        "from embedfleet_schema.catalogue.plugins import installed\n"
        "resolve_space('fake/8')\n"
        "assert ['acme', 'acme-broken', 'acme-plain'] == installed()\n"
        "assert 'acme_embedder' not in sys.modules\n"
    )
    done = python(folder, "-c", program)
    assert 0 == done.returncode, done.stderr
    done = python(folder, "-m", "embedfleet", "--help")
    assert 0 == done.returncode, done.stderr


def test_it_serves_a_collection_by_a_worker_of_its_own(fleet, folder, worker_process):
    with package(folder):
        docs = fleet.collection("docs", model="acme/small", chunking=Chunking(size=40))
        assert "acme/small" == docs.info.chunking.tokenizer
        # Asking for the same again is no other way of cutting.
        fleet.collection("docs", model="acme/small", chunking=Chunking(size=40))
        job = docs.enqueue([Document(key, text) for key, text in TEXTS.items()])
        worker_process(variables={"PYTHONPATH": str(folder)})
        eventually(fleet.workers)
        job.wait(timeout_s=180)
        assert ["egg"] == [hit.document for hit in docs.search("how to boil an egg", k=1)]


def test_who_enqueues_needs_no_package(fleet, folder, worker_process):
    with package(folder):
        fleet.collection("plain", model="acme-plain/64")
    docs = fleet.collection("plain", model="acme-plain/64")
    job = docs.enqueue([Document(key, text) for key, text in TEXTS.items()])
    worker_process(variables={"PYTHONPATH": str(folder)})
    eventually(fleet.workers)
    job.wait(timeout_s=180)
    # The text of a query is embedded by the worker, which has the package.
    assert ["map"] == [hit.document for hit in docs.search("Draw a map.", k=1)]
    assert issubclass(ef.errors.PluginMissing, ef.EmbedfleetError)
