"""Tiny models of random weights with the tokenizer of MiniLM, saved by sentence-transformers."""

from __future__ import annotations

from pathlib import Path

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.types import Space

SIZES = {
    "vocab_size": 30_522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}


def saved(directory: Path, model, pooling="mean", side="right", extra=(), **options) -> Path:
    """A sentence-transformers model in a directory, with the tokenizer of MiniLM."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer

    backbone = directory / "backbone"
    model.save_pretrained(backbone)
    tokenizer = AutoTokenizer.from_pretrained(find_model("all-MiniLM-L6-v2"), padding_side=side)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(backbone)
    first = Transformer(str(backbone))
    modules = [first, Pooling(32, pooling, **options), *extra]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory / "model"))
    return directory / "model"


def bert(seed=0):
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    return BertModel(BertConfig(**SIZES), add_pooling_layer=False)


def space(dimensions=32, *, normalized=False, **prompts):
    return Space("local", "tiny", dimensions, 64, normalized=normalized, **prompts)
