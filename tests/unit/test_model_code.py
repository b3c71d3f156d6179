"""Files of a model that would run code: refused by name, or never shown to a loader."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import NEW, write_json, write_model

from embedfleet_schema.catalogue.model_code import files_below, refuse_code, refuse_pickles
from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import ModelNotFound, ModelRefused
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.loading import only_shown
from embedfleet_workers.embedders.local import LocalEmbedder

pytestmark = pytest.mark.torch

PLACES = [
    "training_args.bin",
    "2_Dense/pytorch_model.bin",
    "2_Dense/model.pt",
    "3_Unnamed/deep/nested/vectors.npy",
    "tokenizer.pkl",
    "0_Transformer/vocab.joblib",
    "checkpoint-500/optimizer.pth",
    "PYTORCH_MODEL.BIN",
    ".hidden/state.ckpt",
]
SHOWN = ["config", "modules", "sentence_bert_config", "1_Pooling/config", "tokenizer"]


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def trap(tmp_path):
    """Lay a pickle that goes off when it is read; the mark that it would leave."""
    mark = tmp_path / "mark"

    def lay(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Trap(mark)))
        return mark

    pickle.loads(pickle.dumps(Trap(tmp_path / "proof")))  # noqa: S301 - it is ours
    assert (tmp_path / "proof").exists()
    return lay


def real_model(directory: Path, *, dense: bool = False) -> Path:
    """A model that loads, of random weights, with the tokenizer of MiniLM."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer, BertConfig, BertModel

    sizes = {"vocab_size": 30_522, "hidden_size": 8, "max_position_embeddings": 64}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(**sizes, **layers)
    BertModel(config, add_pooling_layer=False).save_pretrained(directory / "backbone")
    tokenizer = AutoTokenizer.from_pretrained(find_model("all-MiniLM-L6-v2"), model_max_length=32)
    tokenizer.save_pretrained(directory / "backbone")
    modules = [Transformer(str(directory / "backbone")), Pooling(8, "mean")]
    modules += [Dense(8, 4)] if dense else []
    SentenceTransformer(modules=modules, device="cpu").save(str(directory / "model"))
    return directory / "model"


def with_pickled_dense(directory: Path) -> Path:
    """The same with a dense module that was saved as sentence-transformers once saved it."""
    import torch
    from sentence_transformers.base.modules import Dense

    model = real_model(directory, dense=True)
    (weights,) = model.glob("2_Dense/model.safetensors")
    torch.save(Dense(8, 4).state_dict(), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    return model


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_any_place_of_a_directory_is_refused_by_its_name(place, tmp_path, trap):
    directory = write_model(tmp_path / "model")
    mark = trap(directory / place)

    with pytest.raises(ModelRefused, match=rf"{place} is pickled.*safetensors"):
        find_model(str(directory))
    with pytest.raises(ModelRefused, match="pickled"):
        resolve_space(str(directory))
    assert not mark.exists()


def test_a_pickle_behind_a_link_to_a_folder_is_refused_and_links_in_circles_end(tmp_path, trap):
    directory = write_model(tmp_path / "model")
    trap(tmp_path / "elsewhere" / "state.pt")
    (directory / "2_Dense").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(directory)

    with pytest.raises(ModelRefused, match=r"2_Dense/state\.pt is pickled"):
        find_model(str(directory))


def test_many_pickles_are_named_by_the_first_of_them():
    with pytest.raises(ModelRefused, match=r"0\.pt, 1\.pt, 2\.pt \(and 6 more\) is pickled"):
        refuse_pickles("m", [f"{n}.pt" for n in range(9)])


@given(
    st.lists(st.sampled_from(["a", "2_Dense", "..", ".x"]), max_size=3).map("/".join),
    st.text("abz_-.", min_size=1, max_size=8),
    st.sampled_from(["bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib", "npy", "NPZ", "Bin"]),
)
def test_no_folder_and_no_name_hides_a_pickle(folder, stem, suffix):
    path = f"{folder}/{stem}.{suffix}".lstrip("/")
    with pytest.raises(ModelRefused):
        refuse_pickles("m", ["model.safetensors", "elsewhere/model.safetensors", path])


def test_what_lies_beside_its_safetensors_is_no_obstacle_and_never_read(tmp_path, trap):
    model = real_model(tmp_path, dense=True)
    for folder in ("", "2_Dense"):
        mark = trap(model / folder / "pytorch_model.bin")

    assert model == find_model(str(model))
    LocalEmbedder(Space("local", "m", 4, 32, normalized=False), model, threads=1).close()
    assert not mark.exists()


def test_weights_of_openvino_are_no_pickles(tmp_path):
    directory = write_model(tmp_path)
    (directory / "openvino").mkdir()
    (directory / "openvino" / "openvino_model.bin").write_bytes(b"plain numbers")
    with pytest.raises(ModelRefused):
        find_model(str(directory))
    (directory / "openvino" / "openvino_model.xml").write_text("<net/>")
    assert directory == find_model(str(directory))


def test_a_pickled_module_is_not_loaded_even_by_who_asks_the_loader_itself(tmp_path, trap):
    model = with_pickled_dense(tmp_path)
    with pytest.raises(ModelRefused, match=r"2_Dense/pytorch_model\.bin is pickled"):
        find_model(str(model))
    mark = trap(model / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ModelNotFound, match=r"model\.safetensors"):
        LocalEmbedder(Space("local", "m", 4, 32, normalized=False), model, threads=1)
    assert not mark.exists()


def test_a_loader_finds_no_file_but_those_that_cannot_run_code(tmp_path, trap):
    model = write_model(tmp_path / "model")
    for file in ("modeling_own.py", "own.so", "1_Pooling/conftest.py", "onnx/model.onnx"):
        trap(model / file)
    trap(model / "pytorch_model.bin")

    with only_shown("m", model) as folder:
        expected = {*(f"{name}.json" for name in SHOWN), "model.safetensors"}
        assert expected == set(files_below(folder))


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config", {"hidden_size": 8, "auto_map": {"AutoModel": "own.Model"}}, "auto_map"),
        ("tokenizer_config", {"auto_map": {"AutoTokenizer": ["own.Fast", None]}}, "auto_map"),
        ("config", {"text_config": {"auto_map": {"AutoModel": "a/b--own.Model"}}}, "auto_map"),
        ("1_Pooling/processor_config", {"auto_map": {"x": "y"}}, "auto_map"),
        ("sentence_bert_config", {"model_args": {"trust_remote_code": True}}, "trust_remote_code"),
        ("config", {"_attn_implementation_internal": "a/kernel"}, "_attn_implementation_internal"),
        ("config", {"attn_implementation": "a/kernel@main:f"}, "attn_implementation"),
    ],
)
def test_a_configuration_that_names_code_is_refused(file, content, named, tmp_path):
    directory = write_model(tmp_path)
    write_json(directory / f"{file}.json", content)
    for weights in (True, False):
        with pytest.raises(ModelRefused, match=rf"{file}\.json names its own code \({named}\)"):
            find_model(str(directory), weights=weights)


nested = st.recursive(
    st.just({"auto_map": {"AutoModel": "own.Model"}}),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=2)
    ),
)


@given(nested)
def test_no_depth_hides_code_in_a_configuration(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("model")
    write_json(folder / "config.json", content)
    with pytest.raises(ModelRefused, match="auto_map"):
        refuse_code("m", folder, ["config.json"])


def test_a_configuration_that_cannot_be_read_is_no_reason_to_fall_over(tmp_path):
    for content in ("{", "[" * 200_000, '"\\ud83e"'):
        (tmp_path / "data_config.json").write_text(content)
        refuse_code("m", tmp_path, ["data_config.json"])


@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": {}},
        {"trust_remote_code": False},
        {"attn_implementation": "sdpa"},
        {"attn_implementation": None},
    ],
)
def test_a_configuration_that_names_none_is_taken(content, tmp_path):
    directory = write_model(tmp_path)
    write_json(directory / "generation_config.json", content)
    assert directory == find_model(str(directory))


def test_an_adapter_of_another_model_is_refused(tmp_path):
    directory = write_model(tmp_path)
    write_json(directory / "adapter_config.json", {"base_model_name_or_path": "a/b"})
    with pytest.raises(ModelRefused, match="adapter of another model"):
        find_model(str(directory))


@pytest.mark.parametrize("folder", ["/etc", "../other", "a/../../b", "..\\b"])
def test_a_module_outside_of_the_models_folder_is_refused(folder, tmp_path):
    modules = [{"path": folder, "type": f"{NEW}.transformer.Transformer"}]
    directory = write_model(tmp_path / "model", modules=modules)
    with pytest.raises(ModelRefused, match="outside of its folder"):
        find_model(str(directory), weights=False)
