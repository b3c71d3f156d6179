import subprocess
import sys

import pytest

from embedfleet_schema.errors import BadSettings, ExtraMissing, ModelRefused
from embedfleet_schema.plugin_errors import PluginMissing
from embedfleet_schema.types import Space
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.fake import FakeEmbedder

FAKE = Space("fake", "8", 8, 256)
LOCAL = Space("local", "all-MiniLM-L6-v2", 384, 256, pooling="mean")


def test_the_provider_chooses_the_embedder():
    assert isinstance(load_embedder(FAKE, device="cpu"), FakeEmbedder)


def test_a_provider_that_no_package_brings_is_named():
    with pytest.raises(PluginMissing, match="needs the package that provides 'acme'"):
        load_embedder(Space("acme", "x", 8, 256), device="cpu")


@pytest.mark.parametrize("allowed", [["fake/8"], ["local/*", "fake/*"], ["*"], []])
def test_an_allowed_model_loads(allowed):
    assert load_embedder(FAKE, device="cpu", allowed_models=allowed).space == FAKE


@pytest.mark.parametrize("allowed", [["local/*"], ["fake/80"], ["FAKE/8"]])
def test_a_model_that_is_not_allowed_is_refused(allowed):
    with pytest.raises(ModelRefused, match="loads only"):
        load_embedder(FAKE, device="cpu", allowed_models=allowed)


def test_faults_reach_the_fake_embedder():
    with pytest.raises(BadSettings, match="nonsense"):
        load_embedder(FAKE, device="cpu", faults="nonsense")


def test_other_weights_under_the_same_name_are_refused():
    space = Space("local", "all-MiniLM-L6-v2", 384, 256, revision="sha256:0000000000000000")
    with pytest.raises(ModelRefused, match=r"other weights .*not sha256:0000000000000000"):
        load_embedder(space, device="cpu")


def test_the_registry_loads_no_model_runtime_by_itself():
    program = (
        "import sys\n"
        "import embedfleet_workers.embedders\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout == b"[]\n"


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'embedfleet\[local\]'"):
        load_embedder(LOCAL, device="cpu")
