"""Whether a local model was trained so that its vectors may be cut (Matryoshka, Kusupati 2022)."""

from __future__ import annotations

from pathlib import Path

from embedfleet_schema.catalogue.model_files import find_model, model_card, read_config
from embedfleet_schema.catalogue.space_lookup import SENTENCE_TRANSFORMERS, uncut
from embedfleet_schema.types import Space

_WORD = "matryoshka"


def doubt(space: Space) -> str:
    """What speaks against cutting the vectors of a space so; empty where nothing does.

    Models say it in one of three ways: sentence-transformers saves `truncate_dim` where vectors are
    to be cut, some list `matryoshka_dimensions` in their config.json, and the model card names the
    loss that they were trained with (`loss:MatryoshkaLoss`), or the word.

    Raises:
        ModelNotFound: the model is not within reach.
    """
    if space.provider != "local" or (whole := uncut(space)) == space:
        return ""
    directory = find_model(space.model, weights=False)
    cut = f"vectors of {space.name} are cut to {space.dimensions} of {whole.dimensions} dimensions"
    listed = read_config(space.model, directory / "config.json").get("matryoshka_dimensions")
    if isinstance(listed, list) and listed:
        known = ", ".join(map(str, listed))
        return "" if space.dimensions in listed else f"{cut}; it was trained for {known}"
    if "truncate_dim" in read_config(space.model, directory / SENTENCE_TRANSFORMERS):
        return ""
    if _WORD in _text(model_card(space.model)).lower():
        return ""
    return f"{cut}, and its files do not say that it was trained for that (Matryoshka)"


def _text(path: Path | None) -> str:
    return "" if path is None else path.read_text(encoding="utf-8", errors="replace")
