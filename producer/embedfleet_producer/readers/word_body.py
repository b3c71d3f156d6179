"""The text of a Word file, block by block, from what its parser hears."""

from __future__ import annotations

from embedfleet_producer.readers.word_styles import MAX_LEVEL, outline_level

_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}
# A drawing comes twice, once for old programs; deleted text and fields' codes are not shown.
_UNSEEN = frozenset({"Fallback", "delText", "instrText", "del", "moveFrom"})


class Body:
    """Hears the main part and the notes: paragraphs with `#` for headings, rows between bars."""

    def __init__(self, levels: dict[str, int]) -> None:
        self._levels = levels
        self._blocks: list[str] = []
        self._written: list[str] = []
        self._level = 0
        self._is_item = False
        self._in_text = False
        self._unseen = 0
        # The cells of each row that is open: tables stand in the cells of others.
        self._rows: list[list[str]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._unseen or tag in _UNSEEN:
            self._unseen += 1
            return
        value = attributes.get("val", "")
        match tag:
            case "t":
                self._in_text = True
            case "pStyle":
                self._level = self._levels.get(value, 0)
            case "outlineLvl":
                self._level = min(outline_level(value), MAX_LEVEL) or self._level
            case "numId":
                self._is_item = value != "0"
            case "tr":
                self._rows.append([])
            case "tc" if self._rows:
                self._rows[-1].append("")
            case "br" | "cr" | "noBreakHyphen" | "tab" if "pos" not in attributes:
                self._written.append(_BREAKS[tag])

    def end(self, tag: str) -> None:
        if self._unseen:
            self._unseen -= 1
            return
        match tag:
            case "t":
                self._in_text = False
            case "p":
                self._end_paragraph()
            case "tr" if self._rows:
                self._end_row(self._rows.pop())

    def data(self, text: str) -> None:
        if self._in_text and not self._unseen:
            self._written.append(text)

    def text(self) -> str:
        return "".join(self._blocks).strip("\n")

    def _end_paragraph(self) -> None:
        text = "".join(self._written).replace("\0", "").strip()
        level, is_item = self._level, self._is_item
        self._written, self._level, self._is_item = [], 0, False
        if not text:
            return
        if self._rows:
            self._add_to_cell(" ".join(text.split()))
        elif level:
            self._blocks.append(f"{'#' * level} {' '.join(text.split())}\n\n")
        else:
            self._blocks.append(f"- {text}\n" if is_item else f"{text}\n\n")

    def _add_to_cell(self, text: str) -> None:
        cells = self._rows[-1] or [""]
        cells[-1] = f"{cells[-1]} {text}".lstrip()
        self._rows[-1] = cells

    def _end_row(self, cells: list[str]) -> None:
        if not any(cells):
            return
        if self._rows:
            self._add_to_cell(" ".join(filter(None, cells)))
        else:
            self._blocks.append(f"| {' | '.join(cells)} |\n")
