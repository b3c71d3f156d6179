"""The revision of a model: other files, other revision; the same said otherwise, the same one."""

import json
import shutil

import pytest
from tiny_models import NEW, write_json, write_model

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.model_revision import file_digests, model_revision

MODULES = [
    {"path": "", "type": f"{NEW}.transformer.Transformer"},
    {"path": "1_Pooling", "type": f"{NEW}.pooling.Pooling"},
    {"path": "2_Dense", "type": f"{NEW}.dense.Dense"},
]
DECIDING = [
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "chat_template.jinja",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "model.safetensors",
    "2_Dense/model.safetensors",
]
INDIFFERENT = ["README.md", "data_config.json", "eval/results.json", "onnx/model.safetensors"]


@pytest.fixture
def model(tmp_path):
    directory = write_model(tmp_path / "model", modules=MODULES)
    write_json(directory / "2_Dense" / "config.json", {"out_features": 8})
    (directory / "2_Dense" / "model.safetensors").write_bytes(b"weights")
    return directory


def changed(path):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".json" and path.exists() and path.name != "modules.json":
        write_json(path, json.loads(path.read_text()) | {"another": 1})
    elif path.name == "modules.json":
        write_json(path, [*MODULES, {"path": "3", "type": f"{NEW}.normalize.Normalize"}])
    else:
        path.write_bytes(b'"changed"')


@pytest.mark.parametrize("file", DECIDING)
def test_every_file_that_decides_a_vector_decides_the_revision(file, model):
    revision, digests = model_revision(str(model)), file_digests(str(model))
    changed(model / file)
    now = file_digests(str(model))

    assert revision != model_revision(str(model))
    assert {file} == {path for path in now if now[path] != digests.get(path)}


@pytest.mark.parametrize("file", INDIFFERENT)
def test_a_file_that_decides_nothing_changes_nothing(file, model):
    revision = model_revision(str(model))
    changed(model / file)
    assert revision == model_revision(str(model))


def test_two_words_that_changed_places_in_the_tokenizer_are_another_model(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(find_model("all-MiniLM-L6-v2"), model)
    assert model_revision("all-MiniLM-L6-v2") == model_revision(str(model))

    tokenizer = json.loads((model / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    write_json(model / "tokenizer.json", tokenizer)
    assert model_revision("all-MiniLM-L6-v2") != model_revision(str(model))


def test_the_same_configuration_saved_by_another_program_is_the_same_model(model):
    revision = model_revision(str(model))
    config = json.loads((model / "config.json").read_text())
    told = {"transformers_version": "9", "_name_or_path": "/home/me"}
    told |= dict(reversed(config.items()))
    (model / "config.json").write_text(json.dumps(told, indent=4))
    write_json(model / "tokenizer_config.json", {})
    before = model_revision(str(model))
    write_json(model / "tokenizer_config.json", {"name_or_path": "x", "tokenizer_file": "/home/y"})

    assert before == model_revision(str(model))
    (model / "tokenizer_config.json").unlink()
    assert revision == model_revision(str(model))


def test_a_configuration_that_is_no_json_counts_by_its_bytes(model):
    (model / "special_tokens_map.json").write_text("{")
    one = model_revision(str(model))
    (model / "special_tokens_map.json").write_text("{{")
    assert one != model_revision(str(model))
