"""The docstrings of this interpreter's standard library as documents: text that every Python has.

One document per public module, class and function that has a docstring, read from the sources
without importing or running anything. Test suites, IDLE, demos and modules on their way out are
left out.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

from embedfleet_schema.errors import LibraryMissing
from embedfleet_schema.types import Document

# What a selection takes from first: what most programs import, and most people look up.
_KNOWN = """
argparse base64 bisect calendar collections concurrent configparser contextlib copy csv dataclasses
datetime difflib fnmatch functools glob gzip hashlib heapq html json logging os pathlib pickle
pprint queue random re secrets shelve shlex shutil socket sqlite3 statistics string subprocess
tarfile tempfile textwrap threading timeit urllib uuid zipfile
"""
WELL_KNOWN = tuple(_KNOWN.split())

# Where the docstrings of a public module stand in a private one, under the name people import.
HOMES = {
    "_collections_abc": "collections.abc",
    "_py_warnings": "warnings",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "concurrent.futures._base": "concurrent.futures",
    "pathlib._local": "pathlib",
    "posixpath": "os.path",
}
# Tests and demonstrations, wherever they lie; then what 3.12 and 3.13 removed, deprecated before.
_UNWANTED = """
test tests idle_test idlelib turtledemo
aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib
nntplib nis ossaudiodev pipes smtpd sndhdr spwd sre_compile sre_constants sre_parse sunau telnetlib
uu xdrlib
"""
LEFT_OUT = frozenset(_UNWANTED.split())
# One window of a usual model (256 tokens) holds about as much of this text.
CHARACTERS_PER_CHUNK = 900

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documents(chunks: int | None = None, *, library: Path | None = None) -> list[Document]:
    """All documents, or a selection that makes about that many chunks; sorted by key.

    A selection takes from each well-known module in turn, then from each of the others: first the
    module itself, then its classes and functions, then their methods, by name. So every module
    has an equal share until it has nothing left to give.

    Args:
        library: the folder of the sources; this interpreter's by default.

    Raises:
        LibraryMissing: the sources are not there, as in a frozen program or a zipped library.
    """
    modules = _modules(library or Path(sysconfig.get_path("stdlib")))
    if chunks is None:
        chosen: Iterable[Document] = chain.from_iterable(
            _documents(name, path) for files in modules.values() for name, path in files
        )
    else:
        chosen = _first(chunks, _in_turns(modules))
    unique = _unique(chosen)
    return [unique[key] for key in sorted(unique)]


def _modules(library: Path) -> dict[str, list[tuple[str, Path]]]:
    """The source files by top-level module, as (name of the module, path)."""
    found: dict[str, list[tuple[str, Path]]] = {}
    # The public module speaks first where a private one says the same.
    for path in sorted(_sources(library), key=lambda path: (path.stem in HOMES, path)):
        parts = path.relative_to(library).with_suffix("").parts
        if not LEFT_OUT.isdisjoint(parts):
            continue
        dotted = ".".join(parts).removesuffix(".__init__")
        name = HOMES.get(dotted, dotted)
        if not any(part.startswith("_") for part in name.split(".")):
            found.setdefault(name.partition(".")[0], []).append((name, path))
    if not found:
        raise LibraryMissing(path=library)
    return found


def _sources(library: Path) -> Iterator[Path]:
    # Nothing is looked for below other names: ten times as many files may be installed there.
    for entry in library.iterdir() if library.is_dir() else ():
        if entry.suffix == ".py" and entry.stem in sys.stdlib_module_names:
            yield entry
        elif entry.name in sys.stdlib_module_names:
            yield from entry.rglob("*.py")


def _documents(module: str, path: Path) -> Iterator[Document]:
    with warnings.catch_warnings():
        # An old escape in somebody else's string is no news for who runs the demo.
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes(), filename=str(path))
    if text := ast.get_docstring(tree):
        yield _document(module, module, "module", f"module {module}", text)
    yield from _members(module, module, tree.body)


def _members(module: str, owner: str, body: Iterable[ast.stmt]) -> Iterator[Document]:
    for node in _definitions(body):
        if node.name.startswith("_") and node.name != "__init__":
            continue
        name = f"{owner}.{node.name}"
        text = ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            if text:
                yield _document(name, module, "class", f"class {name}", text)
            yield from _members(module, name, node.body)
        elif text:
            heading = f"{name}({ast.unparse(node.args)})"
            yield _document(name, module, "function", heading, text)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[_Definition]:
    """Classes and functions of a body, also where a platform or an import decides about them."""
    for node in body:
        if isinstance(node, _Definition):
            yield node
        elif isinstance(node, ast.If):
            yield from _definitions([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _definitions([*node.body, *node.orelse, *node.finalbody])
            yield from chain.from_iterable(_definitions(case.body) for case in node.handlers)


def _document(key: str, module: str, kind: str, heading: str, text: str) -> Document:
    return Document(key, f"{heading}\n\n{text}", {"module": module, "kind": kind})


def _in_turns(modules: dict[str, list[tuple[str, Path]]]) -> Iterator[Document]:
    known = [name for name in WELL_KNOWN if name in modules]
    others = sorted(modules.keys() - set(known))
    for group in (known, others):
        queues = [_ranked(modules[name]) for name in group]
        for turn in zip_longest(*queues):
            yield from (document for document in turn if document is not None)


def _ranked(files: Iterable[tuple[str, Path]]) -> list[Document]:
    found = chain.from_iterable(_documents(name, path) for name, path in files)
    unique = _unique(found).values()
    return sorted(unique, key=lambda document: (document.key.count("."), document.key))


def _unique(found: Iterable[Document]) -> dict[str, Document]:
    """By key; where a name is defined twice, its first docstring."""
    first: dict[str, Document] = {}
    for document in found:
        first.setdefault(document.key, document)
    return first


def _first(chunks: int, stream: Iterable[Document]) -> Iterator[Document]:
    count = 0
    for document in stream:
        if count >= chunks:
            return
        count += -(-len(document.text or "") // CHARACTERS_PER_CHUNK)
        yield document
