"""What a model must not bring: code, and files that turn into code when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from embedfleet_schema.errors import ModelNotFound, ModelRefused

# All that a loader is shown: these cannot run anything, whatever is written into them.
SHOWN = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
_PICKLES = tuple(
    f"*.{suffix}"
    for suffix in ("bin", "pt", "pth", "pkl", "pickle", "dill", "ckpt", "joblib", "npy", "npz")
)
_OLDER_WEIGHTS = "pytorch_model*.bin"
# What loaders read as a configuration; other JSON may be large, and is data to them.
_CONFIGURATIONS = ("*config*.json", "modules.json")
# Where a name with a slash is code that transformers would fetch from the hub.
_KERNELS = frozenset({"attn_implementation", "experts_implementation"})
_NAMED = 3


def files_below(directory: Path) -> list[str]:
    """All files as paths below `directory`, through links to folders too, each folder once."""
    found, seen = [], set[str]()
    for folder, folders, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = Path(folder).relative_to(directory)
        found += [(below / file).as_posix() for file in files]
    return sorted(found)


def shown_files(directory: Path, folders: Collection[str]) -> list[str]:
    """The files that a loader is shown: in the model's own folder, and below those of modules."""
    top = [entry.name for entry in directory.iterdir() if entry.is_file()]
    inner = (folder for folder in map(_clean, folders) if folder != ".")
    below = (f"{folder}/{path}" for folder in inner for path in files_below(directory / folder))
    return sorted(path for path in {*top, *below} if _matches(path, SHOWN))


def refuse_pickles(name: str, paths: Iterable[str], folders: Collection[str] | None = None) -> None:
    """Refuse pickles among `paths`, but for those that are no more than safetensors written twice.

    With `folders`, only what stands there in the place of weights counts: a loader is not shown
    the rest of a repository.

    Raises:
        ModelRefused: with the first of them.
    """
    known = set(paths)
    safe = {_folder(path) for path in known if _matches(path, WEIGHTS)}
    found = sorted(
        path
        for path in known
        if _matches(path.lower(), _PICKLES) and not _is_twin(path, known, safe)
    )
    if folders is not None:
        wanted = {_clean(folder) for folder in folders} - safe
        found = [path for path in found if _folder(path) in wanted]
    if found:
        more = f" (and {len(found) - _NAMED} more)" if len(found) > _NAMED else ""
        reason = (
            f"{', '.join(found[:_NAMED])}{more} is pickled, and reading a "
            "pickle can run code. Save "
            "the model again as safetensors, as save_pretrained() of sentence-transformers does, "
            "or delete what it does not need"
        )
        raise ModelRefused(model=name, reason=reason)


def refuse_code(name: str, directory: Path, paths: Iterable[str]) -> None:
    """Refuse a model whose configuration names code, or weights that are not among its files.

    Raises:
        ModelRefused: with the file and what it names.
        ModelNotFound: a file cannot be read.
    """
    for path in paths:
        file = PurePosixPath(path).name
        if file == "adapter_config.json":
            reason = f"{path} makes it an adapter of another model. Save the two as one model"
            raise ModelRefused(model=name, reason=reason)
        if not _matches(path, _CONFIGURATIONS):
            continue
        for named in _named_code(name, directory / path):
            reason = f"{path} names its own code ({named}), which embedfleet never runs"
            raise ModelRefused(model=name, reason=reason)


def refuse_outside(name: str, folder: str) -> None:
    """Refuse a module's folder that is not below the model's own."""
    path = PurePosixPath(folder.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ModelRefused(model=name, reason=f"its module {folder!r} lies outside of its folder")


def _named_code(name: str, path: Path) -> Iterator[str]:
    try:
        left = [json.loads(path.read_bytes())]
    except OSError as error:
        raise ModelNotFound(model=name, reason=f"{path}: {error}") from error
    except (ValueError, RecursionError):
        return  # what we cannot read, no loader can
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
            yield from (key for key, inner in value.items() if _is_code(key, inner))


def _is_code(key: str, value: object) -> bool:
    if key == "auto_map":
        return bool(value)
    if key == "trust_remote_code":
        return value is True
    known = key.removeprefix("_").removesuffix("_internal")
    return known in _KERNELS and isinstance(value, str) and "/" in value


def _is_twin(path: str, known: Collection[str], safe: Collection[str]) -> bool:
    """The older form of safetensors that lie beside, or weights of OpenVINO, which are plain."""
    if fnmatch(PurePosixPath(path).name, _OLDER_WEIGHTS):
        return _folder(path) in safe
    return path.endswith(".bin") and str(PurePosixPath(path).with_suffix(".xml")) in known


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(PurePosixPath(path).name, pattern) for pattern in patterns)


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _clean(folder: str) -> str:
    return str(PurePosixPath(folder))
