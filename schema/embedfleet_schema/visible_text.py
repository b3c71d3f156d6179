"""What leaves a mark on paper: a text without it has nothing to embed."""

from __future__ import annotations

# What Unicode calls default-ignorable (DerivedCoreProperties.txt): it leaves no mark on paper.
_IGNORABLE = (
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0, 0xE0001),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0020, 0xE0080),
    *range(0xE0100, 0xE01F0),
)
_LAST_SPACE = 0x3000
# Why a question is refused.
NOTHING_VISIBLE = "it has no visible text"
_BLANK = "".join(filter(str.isspace, map(chr, range(_LAST_SPACE + 1)))) + "".join(
    map(chr, _IGNORABLE)
)


def has_text(text: str) -> bool:
    """Whether anything visible is in the text."""
    return "!" <= text[:1] <= "~" or bool(text.strip(_BLANK))
