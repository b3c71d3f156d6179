"""Build the book: the pages of docs/, with what they link to, as a folder of HTML.

python docs/build_site.py [FOLDER]

The folder, build/docs by default, is made anew. It opens without a server and without a network.
A link that leads nowhere ends the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "docs"
# Pages that stand elsewhere in the repository.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "deploy/secrets/README.md": "deploy/secrets/index.md",
    "docs/decisions/README.md": "decisions/index.md",
}
EXAMPLES = "examples"
LANGUAGES = {".py": "python", ".sql": "sql", ".toml": "toml"}
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
# The theme lets pages of a folder fetch this from elsewhere; local_worker.js stands in for it.
_ELSEWHERE = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')
_WORKER = "assets/javascripts/local_worker.js"


def pages() -> dict[str, str]:
    """The documents, as paths in the repository, and the page that each becomes."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    own = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs") for path in found}
    return {name: page.as_posix() for name, page in own.items()} | ELSEWHERE


def stage(folder: Path) -> None:
    """Write the pages, their pictures, and a page for each file that they link to, with links
    between them.
    """
    known = pages()
    shown: set[str] = set()
    for name, page in known.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        _write(folder / page, "".join(_relinked(text, name, page, known, shown)))
    for name in sorted(shown - {EXAMPLES}):
        if _is_picture(name):
            _place(folder / _shown_at(name), (ROOT / name).read_bytes())
        else:
            _write(folder / _shown_at(name), _as_code(name))
    if EXAMPLES in shown:
        _write(folder / _shown_at(EXAMPLES), _listing(EXAMPLES))
        for path in sorted((ROOT / EXAMPLES).glob("*.*")):
            name = path.relative_to(ROOT).as_posix()
            _write(folder / _shown_at(name), _as_code(name))


def _relinked(
    text: str, name: str, page: str, known: dict[str, str], shown: set[str]
) -> Iterator[str]:
    """The text with its links to files of the repository led to the pages that they become."""

    def led(link: re.Match[str]) -> str:
        target, hash_mark, anchor = link[0].partition("#")
        if not target or "://" in target:
            return link[0]
        resolved = (ROOT / name).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
        if resolved not in known:
            shown.add(resolved)
        there = known.get(resolved) or _shown_at(resolved)
        relative = os.path.relpath(there, Path(page).parent)
        return f"{relative}{hash_mark}{anchor}"

    end = 0
    for block in _FENCED.finditer(text):
        yield _LINK.sub(led, text[end : block.start()])
        yield block[0]
        end = block.end()
    yield _LINK.sub(led, text[end:])


def _shown_at(name: str) -> str:
    """The page that shows a file, or lists a folder; a picture is a file of its own."""
    if _is_picture(name):
        return name.removeprefix("docs/")
    return f"{name}/index.md" if name == EXAMPLES else f"{name}.md"


def _is_picture(name: str) -> bool:
    return name.endswith(".png")


def _as_code(name: str) -> str:
    path = ROOT / name
    language = LANGUAGES.get(path.suffix, "text")
    code = path.read_text(encoding="utf-8").rstrip()
    return f"# {name}\n\n````{language}\n{code}\n````\n"


def _listing(folder: str) -> str:
    names = [path.name for path in sorted((ROOT / folder).glob("*.*"))]
    return f"# {folder.title()}\n\n" + "".join(f"- [{name}]({name}.md)\n" for name in names)


def _write(path: Path, text: str) -> None:
    _place(path, text.encode())


def _place(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _close(site: Path) -> None:
    """Let the pages ask no other server for anything."""
    shutil.copy(ROOT / "docs" / "local_worker.js", site / _WORKER)
    for page in site.rglob("*.html"):
        script = os.path.relpath(site / _WORKER, page.parent)
        text = _ELSEWHERE.sub(f'<script src="{script}"></script>', page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")


def build(target: Path) -> int:
    """Build into `target`, and return zensical's exit status."""
    project = target.with_name(f"{target.name}-source")
    for folder in (project, target):
        shutil.rmtree(folder, ignore_errors=True)
    stage(project / "pages")
    shutil.copy(ROOT / "docs" / "zensical.toml", project)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    status = subprocess.run(command, cwd=project, check=False).returncode
    if status == 0:
        site = project / "site"
        _close(site)
        site.rename(target)
        shutil.rmtree(project)
        sys.stdout.write(f"{target / 'index.html'}\n")
    return status


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET))
