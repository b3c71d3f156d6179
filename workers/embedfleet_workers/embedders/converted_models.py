"""The folder of converted models: each is made once on a machine, for all of its processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from embedfleet_schema.catalogue.model_revision import file_sha256
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.conversion import Converted
from embedfleet_workers.embedders.openvino_engine import openvino
from embedfleet_workers.embedders.tokens import TokenizerTraits

_log = logging.getLogger(__name__)

# Another one makes all of them anew.
_FORMAT = 1
# Beside the model, what a conversion depends on.
_MADE_WITH = ("openvino", "sentence-transformers", "tokenizers", "torch", "transformers")
_MODEL, _WEIGHTS, _TRAITS, _VECTORS = "model.xml", "model.bin", "traits.json", "vectors.npy"
_DIGESTS = "sha256.json"
UNUSED_S = 30 * 86_400.0


def name_of(space: Space, revision: str) -> str:
    """Under which a model is kept: another file of it, or another package, gives another name."""
    made_with = {package: version(package) for package in _MADE_WITH}
    told = json.dumps([_FORMAT, space.fingerprint.hex(), revision, made_with])
    shown = re.sub(r"[^\w.-]", "_", Path(space.model).name)[:60]
    return f"{shown}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def kept(folder: Path | None, name: str, make: Callable[[], Converted]) -> Converted:
    """What the folder has under a name, or what `make` gives, which is then kept there.

    Of processes that ask at once, one makes it and the others wait. What is damaged is made anew.
    A folder that cannot be written to, or none, means that each process makes its own.
    """
    if folder is None:
        return make()
    place = folder / name
    if (found := _read(place)) is not None:
        return found
    with _turn(place):
        if (found := _read(place)) is not None:
            return found
        if place.is_dir():
            _log.warning("%s is damaged and made anew", place)
        made = make()
        # From the file, other processes share its memory, and PyTorch's is given back.
        return (_read(place) if _keep(place, made) else None) or made


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = place.with_name(f"{place.name}.lock").open("w")
    except OSError:
        yield
        return
    with lock:
        with suppress(OSError):  # a network's file system may know no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(place: Path) -> Converted | None:
    """What is there, if it is whole."""
    try:
        intact = json.loads((place / _DIGESTS).read_text()) == _digests(place)
        traits = TokenizerTraits(**json.loads((place / _TRAITS).read_text()))
        vectors = np.load(place / _VECTORS, allow_pickle=False)
    except (OSError, ValueError, TypeError):
        return None
    if not intact:
        return None
    with suppress(OSError):
        place.touch()  # when it was used last
    return Converted(place / _MODEL, traits, vectors)


def _keep(place: Path, made: Converted) -> bool:
    """Whole or not at all: what a process leaves that dies here, the next one removes."""
    new = place.with_name(f"{place.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        openvino().save_model(made.model, new / _MODEL, compress_to_fp16=False)
        (new / _TRAITS).write_text(json.dumps(asdict(made.traits)))
        np.save(new / _VECTORS, made.expected)
        (new / _DIGESTS).write_text(json.dumps(_digests(new)))
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
    except (OSError, RuntimeError) as error:  # the latter is OpenVINO's
        _log.warning("the converted model is not kept, each start converts it: %s", error)
        shutil.rmtree(new, ignore_errors=True)
        return False
    _forget_unused(place.parent)
    return True


def _digests(place: Path) -> dict[str, str]:
    return {name: file_sha256(place / name) for name in (_MODEL, _WEIGHTS, _TRAITS, _VECTORS)}


def _forget_unused(folder: Path) -> None:
    """Remove what nobody has used in a month: models of packages that were upgraded since."""
    with suppress(OSError):
        now = folder.stat().st_mtime  # something was just put there
        for place in folder.iterdir():
            if place.is_dir() and place.stat().st_mtime < now - UNUSED_S:
                shutil.rmtree(place, ignore_errors=True)
