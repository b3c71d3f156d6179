"""The manifests for Kubernetes, as `kubectl` renders them: no cluster takes part."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from plugins.documents import ROOT

MANIFESTS = ROOT / "deploy/kubernetes"

Resource = dict[str, Any]


def rendered_at(folder: Path) -> list[Resource]:
    """The resources of a kustomization."""
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def rendered(name: str) -> list[Resource]:
    """The same of one of ours, which is read once."""
    return rendered_at(MANIFESTS / name)


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if kind == resource["kind"]]


def only(resources: list[Resource], kind: str) -> Resource:
    (resource,) = of_kind(resources, kind)
    return resource
