"""Models of a few hundred bytes, laid out as sentence-transformers saves them."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OLD = "sentence_transformers.models"
NEW = "sentence_transformers.sentence_transformer.modules"


def safetensors(name: str = "embedding.weight", shape: tuple[int, int] = (3, 5), fill: int = 0):
    size = shape[0] * shape[1] * 4
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes([fill]) * size


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_model(directory: Path, **files: object) -> Path:
    """A BERT-like model of 8 dimensions; `files` adds or replaces (None removes) by path, where __
    stands for a slash and every name ends in .json.
    """
    written = {
        "config": {"hidden_size": 8, "max_position_embeddings": 512, "model_type": "bert"},
        "modules": [
            {"path": "", "type": f"{OLD}.Transformer"},
            {"path": "1_Pooling", "type": f"{OLD}.Pooling"},
            {"path": "2_Normalize", "type": f"{OLD}.Normalize"},
        ],
        "sentence_bert_config": {"max_seq_length": 128, "do_lower_case": False},
        "1_Pooling__config": {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True},
    } | files
    for name, content in written.items():
        if content is not None:
            write_json(directory / f"{name.replace('__', '/')}.json", content)
    (directory / "model.safetensors").write_bytes(safetensors())
    word_tokenizer().save(str(directory / "tokenizer.json"))
    return directory
