import json
import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_models import NEW, OLD, PACKAGED_SHA256, safetensors, write_json, write_model

from embedfleet_schema.catalogue.space_lookup import parse_model, resolve_space
from embedfleet_schema.errors import BadModelName, ModelNotFound, ModelRefused
from embedfleet_schema.types import Space

TRANSFORMER = {"path": "", "type": f"{NEW}.transformer.Transformer"}
POOLING = {"path": "1_Pooling", "type": f"{NEW}.pooling.Pooling"}
NORMALIZE = {"path": "3_Normalize", "type": f"{NEW}.normalize.Normalize"}
DENSE = {"path": "2_Dense", "type": f"{NEW}.dense.Dense"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/text-embedding-3-small", ("openai", "text-embedding-3-small")),
        ("local/all-MiniLM-L6-v2", ("local", "all-MiniLM-L6-v2")),
        ("all-MiniLM-L6-v2", ("local", "all-MiniLM-L6-v2")),
        ("sentence-transformers/all-MiniLM-L6-v2", ("local", "all-MiniLM-L6-v2")),
        ("BAAI/bge-small-en-v1.5", ("local", "BAAI/bge-small-en-v1.5")),
        ("local/openai/clip", ("local", "openai/clip")),
        ("./dir", ("local", "./dir")),
        ("/abs/my model", ("local", "/abs/my model")),
        ("local//abs/dir", ("local", "/abs/dir")),
        ("fake/384", ("fake", "384")),
        ("fake", ("fake", "384")),
    ],
)
def test_a_name_is_split_into_provider_and_model(name, expected):
    assert expected == parse_model(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "openai", "local", "local/", "cohere/", "-x"])
def test_what_names_no_model_is_refused_with_examples(name):
    with pytest.raises(BadModelName, match="Examples: all-MiniLM-L6-v2"):
        parse_model(name)


def test_the_name_of_a_space_names_the_space_again(tmp_path):
    for model in ("fake/16", "all-MiniLM-L6-v2", str(write_model(tmp_path))):
        space = resolve_space(model)
        assert space == resolve_space(space.name)


def test_the_fake_model_has_the_dimensions_of_its_name():
    assert Space("fake", "16", 16, 512) == resolve_space("fake/16")


@pytest.mark.parametrize("name", ["fake/0", "fake/-1", "fake/x", "fake/²", "fake/01", "fake/16001"])
def test_a_fake_model_of_impossible_dimensions_is_refused(name):
    with pytest.raises(BadModelName, match="dimensions"):
        resolve_space(name)


@pytest.mark.parametrize(("dimensions", "storage"), [(2_000, "vector"), (2_001, "halfvec")])
def test_the_storage_is_the_widest_that_can_be_indexed(dimensions, storage):
    assert storage == resolve_space(f"fake/{dimensions}").storage


@pytest.mark.parametrize("wanted", ["vector", "halfvec"])
def test_any_storage_may_be_asked_for(wanted):
    for dimensions in (8, 2_001, 16_000):
        assert wanted == resolve_space(f"fake/{dimensions}", storage=wanted).storage


def test_what_the_files_of_a_model_say_cannot_be_said_otherwise():
    assert resolve_space("fake/8") == resolve_space("fake/8", dimensions=8, max_tokens=512)
    with pytest.raises(BadModelName, match="its vectors have 8 dimensions, not 9"):
        resolve_space("fake/8", dimensions=9)
    with pytest.raises(BadModelName, match="it takes 256 tokens, not 512"):
        resolve_space("all-MiniLM-L6-v2", max_tokens=512)


def test_the_packaged_model_is_described_without_loading_it():
    expected = Space(
        provider="local",
        model="all-MiniLM-L6-v2",
        dimensions=384,
        max_tokens=256,
        revision=f"sha256:{PACKAGED_SHA256[:16]}+bf63291240d349cf",
        pooling="mean",
        normalized=True,
    )
    assert expected == resolve_space("sentence-transformers/all-MiniLM-L6-v2")


def test_resolving_imports_no_model_runtime_and_no_client():
    program = (
        "import sys; from embedfleet_schema.catalogue.space_lookup import resolve_space;"
        "resolve_space('all-MiniLM-L6-v2');"
        "print({'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "set()"


def test_a_directory_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    write_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)

    assert resolve_space("./mine").model == str(tmp_path.resolve() / "mine")


def test_prompts_and_metric_of_the_caller_win(tmp_path):
    saved = {"prompts": {"query": "query: ", "document": "passage: "}}
    directory = write_model(tmp_path, config_sentence_transformers=saved)

    theirs = resolve_space(str(directory))
    assert (theirs.document_prompt, theirs.query_prompt) == ("passage: ", "query: ")
    ours = resolve_space(str(directory), document_prompt="", query_prompt="q ", metric="l2")
    assert (ours.document_prompt, ours.query_prompt, ours.metric) == ("", "q ", "l2")
    assert ours.fingerprint != theirs.fingerprint


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"passage": "p: "}, "p: "),
        ({"corpus": "c: "}, "c: "),
        ({"document": "", "passage": "p: "}, "p: "),
        ({"document": "d: ", "passage": "p: "}, "d: "),
        ({"query": "q: "}, ""),
        (None, ""),
    ],
)
def test_the_document_prompt_is_the_one_that_the_authors_wrote(prompts, expected, tmp_path):
    directory = write_model(tmp_path, config_sentence_transformers={"prompts": prompts})
    assert expected == resolve_space(str(directory)).document_prompt


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"word_embedding_dimension": 8, "pooling_mode_cls_token": True}, ("cls", 8)),
        ({"word_embedding_dimension": 8}, ("mean", 8)),
        ({"embedding_dimension": 8, "pooling_mode": "lasttoken"}, ("lasttoken", 8)),
        ({"embedding_dimension": 8, "pooling_mode": ["cls", "mean"]}, ("cls+mean", 16)),
        ({"embedding_dimension": 8, "include_prompt": False}, ("mean-no-prompt", 8)),
    ],
)
def test_pooling_is_read_in_old_and_new_layouts(config, expected, tmp_path):
    space = resolve_space(str(write_model(tmp_path, **{"1_Pooling__config": config})))
    assert expected == (space.pooling, space.dimensions)


def test_a_missing_pooling_file_is_not_guessed(tmp_path):
    directory = write_model(tmp_path, **{"1_Pooling__config": None})
    with pytest.raises(ModelNotFound, match=r"1_Pooling/config\.json is missing"):
        resolve_space(str(directory))


def test_a_dense_module_sets_the_dimensions_and_undoes_normalization(tmp_path):
    files = {"2_Dense__config": {"in_features": 8, "out_features": 3}}
    modules = [TRANSFORMER, POOLING, NORMALIZE, DENSE]
    space = resolve_space(str(write_model(tmp_path / "a", modules=modules, **files)))
    assert (3, False) == (space.dimensions, space.normalized)

    modules = [TRANSFORMER, POOLING, DENSE, NORMALIZE]
    space = resolve_space(str(write_model(tmp_path / "b", modules=modules, **files)))
    assert (3, True) == (space.dimensions, space.normalized)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"hidden_size": 8}, "mean"),
        ({"dim": 8, "architectures": ["DistilBertModel"]}, "mean"),
        ({"hidden_size": 8, "architectures": ["Qwen3ForCausalLM"]}, "lasttoken"),
        ({"hidden_size": 8, "architectures": ["GemmaForCausalLM"], "is_causal": False}, "mean"),
        ({"text_config": {"hidden_size": 8, "max_position_embeddings": 64}}, "mean"),
    ],
)
def test_a_plain_transformer_gets_the_default_pooling(config, pooling, tmp_path):
    config = {"max_position_embeddings": 64} | config
    directory = write_model(tmp_path, modules=None, config=config, sentence_bert_config=None)
    space = resolve_space(str(directory))
    assert (8, pooling, False, 64) == (
        space.dimensions,
        space.pooling,
        space.normalized,
        space.max_tokens,
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 128),
        ({"sentence_bert_config": None, "sentence_roberta_config": {"max_seq_length": 96}}, 96),
        ({"sentence_bert_config": {"processor_kwargs": {"model_max_length": 64}}}, 64),
        ({"sentence_bert_config": {"tokenizer_args": {"model_max_length": 64}}}, 64),
        ({"sentence_bert_config": {"max_seq_length": None}}, 512),
        ({"sentence_bert_config": {}, "tokenizer_config": {"model_max_length": 200}}, 200),
        ({"sentence_bert_config": {}, "tokenizer_config": {"model_max_length": 10**30}}, 512),
        ({"sentence_bert_config": {}, "tokenizer_config": {"model_max_length": 1024}}, 512),
    ],
)
def test_the_token_limit_is_where_sentence_transformers_finds_it(files, expected, tmp_path):
    assert expected == resolve_space(str(write_model(tmp_path, **files))).max_tokens


def test_positions_before_the_first_token_do_not_count(tmp_path):
    config = {
        "hidden_size": 8,
        "max_position_embeddings": 514,
        "pad_token_id": 1,
        "model_type": "xlm-roberta",
    }
    directory = write_model(tmp_path, config=config, sentence_bert_config=None)
    assert resolve_space(str(directory)).max_tokens == 512


def test_a_model_that_states_no_token_limit_is_not_guessed(tmp_path):
    directory = write_model(tmp_path, config={"hidden_size": 8}, sentence_bert_config=None)
    with pytest.raises(ModelNotFound, match="how many tokens"):
        resolve_space(str(directory))


def test_a_model_that_states_no_dimensions_is_not_guessed(tmp_path):
    directory = write_model(tmp_path, modules=None, config={"max_position_embeddings": 8})
    with pytest.raises(ModelNotFound, match="how many dimensions its vectors have"):
        resolve_space(str(directory))


@pytest.mark.parametrize("tensor", ["embedding.weight", "embeddings"])
def test_a_static_model_is_as_wide_as_its_table(tensor, tmp_path):
    modules = [{"path": "0_Static", "type": f"{NEW}.static_embedding.StaticEmbedding"}]
    directory = write_model(tmp_path, modules=modules)
    write_json(directory / "0_Static" / "config.json", {})
    (directory / "0_Static" / "model.safetensors").write_bytes(safetensors(tensor, (3, 5)))

    space = resolve_space(str(directory))
    assert (5, "mean", 512) == (space.dimensions, space.pooling, space.max_tokens)


def test_a_module_that_is_not_supported_is_named(tmp_path):
    directory = write_model(tmp_path, modules=[{"path": "", "type": f"{OLD}.Router"}])
    with pytest.raises(ModelRefused, match="its module Router is not supported"):
        resolve_space(str(directory))


def test_new_weights_under_an_old_path_are_another_space(tmp_path):
    directory = write_model(tmp_path)
    before = resolve_space(str(directory))
    (directory / "model.safetensors").write_bytes(safetensors(fill=7))

    assert before.fingerprint != resolve_space(str(directory)).fingerprint


def test_a_space_of_before_takes_a_model_by_its_weights_and_a_new_one_by_all_files(tmp_path):
    directory = write_model(tmp_path)
    now = resolve_space(str(directory))
    before = replace(now, revision=now.revision.partition("+")[0])
    assert before.takes(now)
    assert now.takes(now)
    assert not now.takes(before)

    write_json(directory / "tokenizer_config.json", {"do_lower_case": True})
    assert before.takes(resolve_space(str(directory)))
    assert not now.takes(resolve_space(str(directory)))
    (directory / "model.safetensors").write_bytes(safetensors(fill=7))
    assert not before.takes(resolve_space(str(directory)))


def test_a_config_that_is_no_object_is_named(tmp_path):
    directory = write_model(tmp_path)
    (directory / "sentence_bert_config.json").write_text(json.dumps([1]))
    with pytest.raises(ModelNotFound, match="sentence_bert_config"):
        resolve_space(str(directory))
