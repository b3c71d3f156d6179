"""Files that are text under many names: source code, settings, and files without a suffix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader

from embedfleet_producer.readers.rejections import FileRejected, Verdict
from embedfleet_producer.readers.text import read_text, text_document

_NAMES = """
    adb adoc ads asciidoc asm astro awk bash bat bib bzl c cc cfg cjs clj cljc cljs cmake
    cmd coffee conf cpp cr cs css cu cxx d dart diff dockerfile edn el elm erl ex exs f f90
    fish fs fsx gd gemspec go gql gradle graphql groovy h hcl hh hpp hrl hs hxx ini java jl
    js json5 jsonc jsx kt kts less lisp log lua m mjs mk ml mli mm nim nix org pas patch php
    pl pm po properties proto ps1 psm1 pxd py pyi pyw pyx r rake rb rkt rs s sass scala scm
    scss sh sol sql srt sty sv svelte swift tcl tex textile tf toml ts tsx v vb vhd vhdl vim
    vtt vue wat wgsl xml xsd xsl xslt yaml yml zig zsh
"""
SOURCE_SUFFIXES = tuple(f".{name}" for name in re.findall(r"\w+", _NAMES))


class SourceReader:
    """Reads a file as text that is not Markdown, whatever the collection's chunk mode."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
        yield text_document(key, read_text(stream, max_bytes), self._kind, mode="text")


def read_unnamed(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """README, LICENSE, Makefile: a file without a suffix, if it is text.

    Raises:
        FileRejected: UNKNOWN_TYPE where it is none, as for a suffix that is not known.
    """
    try:
        text = read_text(stream, max_bytes)
    except FileRejected as refused:
        if refused.code in {"NOT_TEXT", "BAD_ENCODING"}:
            raise FileRejected("UNKNOWN_TYPE", "it has no suffix, and it is not text") from refused
        raise
    yield text_document(key, text, "txt")
