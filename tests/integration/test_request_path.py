"""The way of one API request, from its batch to Redis and to the provider: short enough to know.

Printed with `pytest -rP`: every call in its order.
"""

from __future__ import annotations

import ast
import gc
import sys
from typing import TYPE_CHECKING

from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.factory import open_factory
from plugins.api_fleets import DIMENSIONS, MAX_TOKENS, NAME
from plugins.call_paths import ROOT, CallPath

if TYPE_CHECKING:
    from plugins.api_fleets import ApiFleetMaker

MOST_FILES = 20
# From `FanOut.run` to the call of the script.
MOST_FRAMES = 8
MOST_FRAMES_TO_PROVIDER = 5
MOST_CLASSES = 23
RATE_LIMITS = ROOT / "workers" / "embedfleet_workers" / "rate_limits"


def test_one_request_passes_few_files_and_few_frames(api_fleet: ApiFleetMaker):
    made = api_fleet()
    made.tell_limits(requests=6_000.0, tokens=6_000_000.0)
    factory = open_factory(made.fleet.settings, made.fleet.db)
    embedder = factory.embedder(Space("openai", NAME, DIMENSIONS, MAX_TOKENS))
    # The first one connects, and reads what a person set.
    embedder.embed(["a first text"], "document")
    path = CallPath()
    # What an earlier test left is not cleared away on this request's way.
    gc.collect()
    gc.disable()
    try:
        factory._loop.run(path.begin()).result()
        with path.watched():
            embedder.embed(["another text"], "document")
        factory._loop.run(path.end()).result()
    finally:
        gc.enable()
    factory.close()
    figures = f"{len(path.steps)} calls, {len(path.files)} files, {path.changes_of_file} changes"
    sys.stdout.write("\n".join([figures, *path.steps, ""]))
    to_redis = path.stack_of("RedisScript.call")
    assert "FanOut.run" in to_redis[0]
    assert len(to_redis) <= MOST_FRAMES, to_redis
    to_provider = path.stack_of("OpenAIApi.send")
    assert len(to_provider) <= MOST_FRAMES_TO_PROVIDER, to_provider
    assert len(path.files) <= MOST_FILES, path.files


def test_the_rate_limiter_has_few_classes():
    classes = [
        node.name
        for path in RATE_LIMITS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) <= MOST_CLASSES, classes


def test_no_two_modules_of_the_workers_have_one_name():
    names = [path.name for path in RATE_LIMITS.parent.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)
