"""A directory with all-MiniLM-L6-v2, to be changed as somebody might change a model."""

import json
from pathlib import Path

import numpy as np
import pytest

from embedfleet_schema.catalogue.model_files import find_model


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


class LocalModel:
    """The model's files in a directory of the test's own; the weights are a link to the others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = str(directory)
        source = find_model("all-MiniLM-L6-v2")
        for path in source.rglob("*.*"):
            if path.is_file():
                target = directory / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".safetensors":
                    target.symlink_to(path)
                else:
                    target.write_bytes(path.read_bytes())

    def swap_words(self, *words: str) -> None:
        """Give the words the numbers of each other, in turns."""
        file = self.directory / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        numbers = tokenizer["model"]["vocab"]
        turned = [numbers[word] for word in (*words[1:], words[0])]
        numbers.update(zip(words, turned, strict=True))
        write_json(file, tokenizer)

    def pool_by(self, mode: str) -> None:
        modes = {f"pooling_mode_{name}": False for name in ("cls_token", "mean_tokens")}
        write_json(
            self.directory / "1_Pooling" / "config.json",
            {"word_embedding_dimension": 384, **modes, f"pooling_mode_{mode}": True},
        )

    def disturb_weights(self, share: float) -> None:
        """Add noise of so many standard deviations to each weight."""
        from safetensors.numpy import load_file, save_file

        file = self.directory / "model.safetensors"
        weights = load_file(file)
        file.unlink()
        noise = np.random.default_rng(0)
        for name, values in weights.items():
            if values.dtype == np.float32 and values.size > 1:
                drawn = noise.standard_normal(values.shape, dtype=np.float32)
                weights[name] = values + drawn * np.float32(share * values.std())
        save_file(weights, file, metadata={"format": "pt"})


@pytest.fixture
def local_model(tmp_path: Path) -> LocalModel:
    return LocalModel(tmp_path / "model")
