"""OpenVINO: quicker than PyTorch on x86-64, and twice as quick where that has bfloat16."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from embedfleet_schema.types import EngineName, Precision, Space
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.protocol import Rows
from embedfleet_workers.embedders.tokens import Features

if TYPE_CHECKING:
    from types import ModuleType

_TELEMETRY = "openvino_telemetry"
_first_use = threading.Lock()
_HINTS = {"float32": "f32", "half": "bf16"}
# Measured: 2% slower than without a limit where packs of 267 shapes come in turns.
_SHAPES_KEPT = 256
# Measured on two cores with AVX512-BF16 and all-MiniLM-L6-v2.
PADDED_TOKENS: dict[Precision, int] = {"float32": 768, "half": 2_048}


def is_installed() -> bool:
    return find_spec("openvino") is not None


def openvino() -> ModuleType:
    """The package, imported so that it reports nothing to anybody.

    It tells Intel of each import and each conversion, unless `openvino_telemetry` is missing.
    And two threads that ask it for a type at the same time, before one has, wait for each other for
    ever: it makes its table of types in a static of C++, without the interpreter's lock.
    """
    with _first_use:
        if "openvino" not in sys.modules:
            sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
        import openvino as package

        package.Type.f32.to_dtype()
    module: ModuleType = package
    return module


class OpenVinoEngine:
    """A converted model with a stream of its own for each thread, each on one core."""

    name: EngineName = "openvino"

    def __init__(
        self, model: object, space: Space, threads: int | None, precision: Precision
    ) -> None:
        """`model`: the file of one that was saved, or what `convert` made."""
        self.precision = precision
        self.streams = threads or cores()
        self.padded_tokens = PADDED_TOKENS[precision]
        self._space = space
        self._requests = threading.local()
        options = {
            # Unless told, it takes bfloat16 wherever the CPU has it.
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": self.streams,
            # Each process would choose the same cores.
            "ENABLE_CPU_PINNING": False,
            # It keeps what it prepared for each shape of a pack, 0.4 MB each: 5,000 unless told.
            "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
        }
        self._compiled = openvino().Core().compile_model(model, "CPU", options)
        self._names = [each.get_any_name() for each in self._compiled.inputs]

    def bind(self) -> None:
        self._requests.own = self._compiled.create_infer_request()

    def run(self, features: Features) -> Rows:
        answer = self._requests.own.infer(
            [features[name] for name in self._names], share_inputs=True
        )
        vectors: Rows = np.array(answer[0], dtype=np.float32)
        if self._space.normalized and self.precision == "half":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
