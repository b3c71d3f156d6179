"""A package of `tests/packages`, installed into a folder as pip does it, without a build."""

import shutil
import tomllib
from pathlib import Path

from plugins.documents import ROOT


def installed(name: str, folder: Path) -> Path:
    """The folder, with the package and its metadata: put it on PYTHONPATH."""
    return installed_from(ROOT / "tests/packages" / name, folder)


def installed_from(source: Path, folder: Path) -> Path:
    """The same of a package in any folder, with `pyproject.toml` and `src`."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    shutil.copytree(source / "src", folder, dirs_exist_ok=True)
    name = project["name"].replace("-", "_")
    metadata = folder / f"{name}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    (metadata / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
            for group, points in groups
        )
    )
    return folder
