"""Which engine and which precision a local model gets: what was asked for, and what passes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from embedfleet_schema.errors import ExtraMissing
from embedfleet_workers.cores import cpu_flags
from embedfleet_workers.embedders import choice, openvino_engine
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from embedfleet_workers.embedders.probes import SAME, agreement, probe_texts
from plugins.random_models import bert, saved, space

pytestmark = [pytest.mark.torch, pytest.mark.openvino]

BFLOAT16 = frozenset({"avx2", "avx512_bf16"})
HAS_AVX512 = "avx512f" in cpu_flags()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("tiny"), bert())


@pytest.fixture
def load(directory):
    def loaded(engine="auto", precision="auto"):
        return LocalEmbedder(space(), directory, threads=1, wanted=Wanted(engine, precision))

    return loaded


@pytest.fixture
def flags(monkeypatch):
    """The flags of the CPU; OpenVINO calculates in bfloat16 on any with AVX-512."""

    def given(found):
        monkeypatch.setattr(choice, "cpu_flags", lambda: found)

    return given


@pytest.fixture
def on_x86_64(monkeypatch):
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")


def came_of(embedder):
    return embedder.engine, embedder.precision


def test_auto_is_openvino_in_half_precision_where_the_cpu_has_it(load, flags, on_x86_64):
    flags(BFLOAT16)
    exact = load("torch").embed(probe_texts(64), "document")
    embedder = load()
    assert ("openvino", "half") == came_of(embedder)
    found = agreement(exact, embedder.embed(probe_texts(64), "document"))
    assert found.min() >= SAME["half"]
    # Without AVX-512, OpenVINO calculates in float32 whatever it is told.
    assert (found.min() < 1 - 1e-10) == HAS_AVX512


def test_auto_is_openvino_in_float32_where_the_cpu_has_no_bfloat16(load, flags, on_x86_64):
    flags(frozenset({"avx2"}))
    assert ("openvino", "float32") == came_of(load())


def test_float32_is_float32_where_the_cpu_would_rather_have_bfloat16(load, flags):
    flags(BFLOAT16)
    exact = load("torch").embed(probe_texts(64), "document")
    embedder = load("openvino", "float32")
    assert ("openvino", "float32") == came_of(embedder)
    assert agreement(exact, embedder.embed(probe_texts(64), "document")).min() >= SAME["float32"]


def test_auto_is_pytorch_on_a_cpu_that_nobody_measured(load, monkeypatch):
    monkeypatch.setattr(choice.platform, "machine", lambda: "aarch64")
    assert ("torch", "float32") == came_of(load())


def test_auto_is_pytorch_without_openvino_and_who_asks_for_it_is_told(load, monkeypatch):
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    assert ("torch", "float32") == came_of(load())
    with pytest.raises(ExtraMissing, match=r"embedfleet\[local\]"):
        load("openvino")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_half_that_cannot_be_had_is_float32_and_says_so(load, flags, caplog, engine):
    flags(frozenset())
    assert (engine, "float32") == came_of(load(engine, "half"))
    assert "runs in float32" in caplog.text


def test_half_that_is_too_far_off_is_float32_and_says_so(load, flags, caplog, monkeypatch):
    flags(BFLOAT16)
    monkeypatch.setitem(choice.SAME, "half", 1.1)
    assert ("openvino", "float32") == came_of(load("openvino"))
    assert "is not used in half with OpenVINO: cosine " in caplog.text


def test_an_engine_that_gives_other_vectors_is_not_used(load, caplog, monkeypatch):
    run = openvino_engine.OpenVinoEngine.run
    monkeypatch.setattr(
        openvino_engine.OpenVinoEngine, "run", lambda self, given: run(self, given)[:, ::-1]
    )
    assert ("torch", "float32") == came_of(load("openvino"))
    assert "is not used in float32 with OpenVINO" in caplog.text


def test_vectors_that_are_no_numbers_are_not_taken_for_the_same(load, monkeypatch):
    run = openvino_engine.OpenVinoEngine.run
    monkeypatch.setattr(
        openvino_engine.OpenVinoEngine, "run", lambda self, given: run(self, given) * np.nan
    )
    assert ("torch", "float32") == came_of(load("openvino"))


def test_a_model_that_cannot_be_converted_runs_with_pytorch_and_one_line_says_so(
    load, caplog, monkeypatch
):
    def refuse(*_, **__):
        raise RuntimeError("\nno such operation: aten::odd\nmore lines")

    monkeypatch.setattr(openvino_engine.openvino(), "convert_model", refuse)
    assert ("torch", "float32") == came_of(load("openvino"))
    said = [record.getMessage() for record in caplog.records if "embedders" in record.name]
    reason = "OpenVINO cannot run the model: no such operation: aten::odd."
    assert [f"local/tiny runs with PyTorch: {reason}"] == said


TELLS = """
import sys
reached = []

def note(event, given):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
        reached.append((event, given))

sys.addaudithook(note)
from pathlib import Path
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.local import LocalEmbedder
from plugins.random_models import space

wanted = Wanted("openvino")
embedder = LocalEmbedder(space(), Path(sys.argv[1]), threads=1, wanted=wanted)
assert embedder.engine == "openvino"
import atexit
atexit._run_exitfuncs()
print(reached, sys.modules["openvino_telemetry"])
"""


def test_openvino_tells_nobody_that_it_is_used(directory, tmp_path):
    """Its telemetry asks nobody; it holds back in CI, and where a file in the home says no."""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", TELLS, str(directory)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "[] None" == done.stdout.strip()
    assert not (tmp_path / "intel").exists()


AT_ONCE = """
import os, sys, threading
from embedfleet_workers.embedders.openvino_engine import openvino

package = openvino()
sys.setswitchinterval(1e-6)
ready = threading.Barrier(4)

def ask():
    ready.wait()
    package.Type.i64.to_dtype()

threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join(20)
os._exit(any(each.is_alive() for each in threads))
"""


def test_threads_that_use_it_for_the_first_time_do_not_wait_for_each_other_for_ever():
    assert 0 == subprocess.run([sys.executable, "-c", AT_ONCE], check=False, timeout=60).returncode
