"""Names that people give and read: which may be given, and how one that traffic brought is shown."""

import unicodedata

_UNSEEN = {
    "\u061c",
    "\u200e",
    "\u200f",
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
}  # turn the line round


def is_typable(name: str) -> bool:
    """Whether people could type the name again: one line of characters that are seen, no space at its ends.

    >>> [is_typable(name) for name in ("int8 | v2", "int8 ", "a\\nb", "")]
    [True, False, False, False]
    """
    return bool(name) and name == name.strip() and name.isprintable()


def one_line(text: str) -> str:
    """The text with what would break or forge a line written as Python writes it.

    >>> one_line("base\\nint8: fine")
    'base\\\\nint8: fine'
    """
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def name_after(name: str) -> str:
    """What the name of a child may begin with, short enough that something can follow."""
    return one_line(name).strip()[:100]


def lines(text: str) -> str:
    """As `one_line`, for a text that may have lines."""
    return "\n".join(map(one_line, text.split("\n")))


def _shown(char: str) -> str:
    return repr(char)[1:-1] if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") or char in _UNSEEN else char
