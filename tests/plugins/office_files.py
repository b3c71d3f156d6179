"""Files that office programs and notebooks write, as small as they can be."""

import json
import zipfile

MAIN = "word/document.xml"
_NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def part(tag, body):
    """A part of a Word file."""
    return f'<?xml version="1.0"?><w:{tag} xmlns:w="{_NAMESPACE}">{body}</w:{tag}>'


def paragraph(text, properties=""):
    run = f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'
    return f"<w:p><w:pPr>{properties}</w:pPr>{run}</w:p>"


def heading_style(name, level):
    return f'<w:style w:styleId="{name}"><w:name w:val="heading {level}"/></w:style>'


def docx(path, body, **parts):
    """Write a Word file; `parts` are other parts by name, `__` for a slash."""
    files = {MAIN: part("document", f"<w:body>{body}</w:body>")}
    files |= {f"{name.replace('__', '/')}.xml": text for name, text in parts.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def docx_of_pieces(path, piece, count):
    """A Word file whose main part is one piece of XML again and again; it is packed well."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(MAIN, "w") as main,
    ):
        main.write(f'<w:document xmlns:w="{_NAMESPACE}"><w:body>'.encode())
        for _ in range(count):
            main.write(piece)
        main.write(b"</w:body></w:document>")
    return path


def notebook(path, *cells, **metadata):
    """Write a notebook; cells are pairs of a type and a source."""
    listed = [{"cell_type": kind, "source": source, "outputs": []} for kind, source in cells]
    path.write_text(json.dumps({"nbformat": 4, "metadata": metadata, "cells": listed}))
    return path
