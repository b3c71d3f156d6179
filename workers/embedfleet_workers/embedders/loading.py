"""Loading a sentence-transformers model: quietly, from files only, and never half."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from embedfleet_schema.catalogue.model_files import shown
from embedfleet_schema.errors import ExtraMissing, ModelNotFound, ModelRefused, WorkerStartFailed
from embedfleet_schema.types import Space

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_EXTRA = "local"
_PACKAGES = {"safetensors", "sentence_transformers", "torch", "transformers"}
# Their activations leave the range of float16; they were trained in bfloat16.
_NEEDS_BFLOAT16 = ("gemma", "t5")
# Weights that transformers draws at random because the files lack them. Poolers are made for
# every BERT and never read by sentence-transformers, which pools the token vectors.
_DRAWN = re.compile(
    r"^(?!\S*pooler\.)(\S+)\s*\|\s*(?:\x1b\[[\d;]*m)*(?:MISSING|MISMATCH)", re.MULTILINE
)
_REPORT_LOGGER = "transformers.modeling_utils"


def load_model(space: Space, directory: Path, device: str, *, half: bool) -> SentenceTransformer:
    """The model in evaluation mode on the device, in float32 or in half precision.

    Raises:
        ExtraMissing: PyTorch or sentence-transformers is not installed.
        WorkerStartFailed: the device is not there.
        ModelNotFound: the directory does not hold a model that loads.
        ModelRefused: weights are missing, or the model brings code of its own.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise ExtraMissing(feature=f"The model {space.name}", extra=_EXTRA) from error
    check_device(device)
    try:
        with only_shown(space.name, directory) as folder, quiet() as reports:
            model = SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": _dtype(directory, half=half)},
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise ModelNotFound(model=space.name, reason=f"{directory}: {error}") from error
    drawn = _DRAWN.findall("\n".join(reports))
    if drawn:
        reason = f"{directory} lacks weights that it needs ({', '.join(drawn[:3])})"
        raise ModelRefused(model=space.name, reason=reason)
    _cut_at(model, space)
    model.truncate_dim = None  # the embedder cuts vectors, whatever ran the model
    torch.nn.Module.eval(model)
    return model


@contextmanager
def only_shown(name: str, directory: Path) -> Iterator[Path]:
    """A folder of links to the files that cannot run code: what else a loader may look for, it
    does not find.
    """
    with TemporaryDirectory(prefix="embedfleet-model-") as made:
        folder = Path(made)
        for path in shown(name, directory):
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((directory / path).resolve())
        yield folder


def check_device(device: str) -> None:
    """Raise WorkerStartFailed where the device is not there, ExtraMissing without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature=f"The device {device}", extra=_EXTRA) from error

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise WorkerStartFailed(
            reason=f"the device {device!r} is asked for, but PyTorch {torch.__version__} finds no "
            "CUDA device. Start it with --queue cpu, or install the CUDA build of PyTorch and "
            "check the driver with nvidia-smi"
        )


def _dtype(directory: Path, *, half: bool) -> torch.dtype:
    import torch

    if not half:
        return torch.float32
    config = _config(directory)
    trained_in = str(config.get("dtype") or config.get("torch_dtype"))
    if trained_in == "bfloat16" or any(
        name in str(config.get("model_type")) for name in _NEEDS_BFLOAT16
    ):
        return torch.bfloat16
    return torch.float16


def _config(directory: Path) -> dict[str, Any]:
    for file in (directory / "config.json", directory / "0_Transformer" / "config.json"):
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
    return {}


def _cut_at(model: SentenceTransformer, space: Space) -> None:
    """Cut texts where the space says; models without a limit have nothing to set."""
    own = model.max_seq_length
    if own is not None and own != float("inf"):
        model.max_seq_length = space.max_tokens


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Hold back progress bars and loading reports; yields the reports."""
    from transformers.utils import logging as transformers_logging

    reports: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        reports.append(record.getMessage())
        return False

    logger = logging.getLogger(_REPORT_LOGGER)
    showed_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logger.addFilter(keep)
    try:
        yield reports
    finally:
        logger.removeFilter(keep)
        if showed_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
