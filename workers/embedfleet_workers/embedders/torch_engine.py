"""PyTorch: runs whatever sentence-transformers loads, on a CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedfleet_schema.types import EngineName, Precision, Space
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.engine import OutOfMemory
from embedfleet_workers.embedders.protocol import Rows
from embedfleet_workers.embedders.tokens import Features

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Measured on two Zen 3 cores with a 22M-parameter model: 512 to 1,536 are within 5%.
CPU_PADDED_TOKENS = 768
CUDA_PADDED_TOKENS = 65_536


class TorchEngine:
    """The modules of a model of sentence-transformers, one after the other.

    Each thread is bound to one core of a CPU: two of them beat one that uses two cores by about a
    tenth. A CUDA device has one thread, which thereby is the lock of the device.
    """

    name: EngineName = "torch"

    def __init__(self, model: SentenceTransformer, space: Space, threads: int | None) -> None:
        self.precision = precision_of(model)
        self.streams = (threads or cores()) if model.device.type == "cpu" else 1
        self.padded_tokens = (
            CUDA_PADDED_TOKENS if model.device.type == "cuda" else CPU_PADDED_TOKENS
        )
        self._model = model
        self._space = space

    def bind(self) -> None:
        use_cores(1)

    def run(self, features: Features) -> Rows:
        import torch

        try:
            return self._run(features)
        except torch.OutOfMemoryError as error:
            reason = str(error)
        # Outside the handler: the error's traceback keeps the tensors of the failed pass alive.
        torch.cuda.empty_cache()
        raise OutOfMemory(reason)

    def _run(self, features: Features) -> Rows:
        import torch

        inputs: dict[str, object] = {"modality": "text"}
        with torch.inference_mode():
            for name, values in features.items():
                inputs[name] = torch.from_numpy(values).to(self._model.device)
            return as_numpy(self._model(inputs)["sentence_embedding"], self._space)


def precision_of(model: SentenceTransformer) -> Precision:
    import torch

    return "float32" if model.dtype == torch.float32 else "half"


def as_numpy(vectors: torch.Tensor, space: Space) -> Rows:
    """float32 on the host. Half precision leaves lengths a little off 1, so they are set again."""
    import torch

    with torch.inference_mode():
        single = vectors.float()
        if space.normalized and vectors.dtype != torch.float32:
            single = torch.nn.functional.normalize(single, dim=1)
        matrix: Rows = single.cpu().numpy()
        return matrix


def use_cores(count: int) -> None:
    """Bind the calling thread's PyTorch operations to so many cores."""
    import torch

    torch.set_num_threads(count)
