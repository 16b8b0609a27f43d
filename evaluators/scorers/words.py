"""Text as a sequence of comparable words, in any script."""

import re
import unicodedata
from functools import lru_cache

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGZHOU", "THAI", "LAO ", "KHMER", "MYANMAR")
_MINUS = re.compile(r"(?<!\w)[-\u2212\u2013](?=[.,]?\d)")
MOST_KEPT = 4000  # characters of a text whose words are remembered
_ARTICLES = frozenset({"a", "an", "the"})


class _Separated(dict[int, str | None]):
    """Character → itself, a space, nothing, or itself between spaces; learnt as characters come."""

    def __missing__(self, code: int) -> str | None:
        self[code] = self._of(chr(code), unicodedata.category(chr(code)))
        return self[code]

    def _of(self, character: str, category: str) -> str | None:
        if (
            character in "'\u2019\u02bc" or category == "Cf"
        ):  # don't is one word; joiners and marks of direction are none
            return None
        if category[0] in "LNM":
            alone = category == "Lo" and unicodedata.name(character, "").startswith(_UNSPACED)
            return f" {character} " if alone else character
        return f" {character} " if category in ("Sm", "Sc") else " "


_SEPARATED = _Separated()
_SIGNS = re.compile("[$+<=>|~]")
_ASCII = {  # lowered, and one character for one or none: such a table is translated by many times as fast
    code: mapped if mapped is None or not _SIGNS.search(mapped) else mapped.strip()
    for code, mapped in ((code, _SEPARATED[ord(chr(code).lower())]) for code in range(128))
}


def words(text: str) -> list[str]:
    """The words of a text, case folded, without punctuation; characters of unspaced scripts are words of their own.

    Currency and mathematical signs are words too, a minus before a number among them.

    >>> words("It's NOT -5 €, naïve 東京!")
    ['its', 'not', '−', '5', '€', 'naïve', '東', '京']
    """
    return list(_words(text) if len(text) <= MOST_KEPT else _words.__wrapped__(text))


@lru_cache(maxsize=512)
def _words(text: str) -> tuple[str, ...]:
    # Several scorers look at the same few texts one after the other.
    if text.isascii() and not ("-" in text and _MINUS.search(text)):
        plain = text.translate(_ASCII)
        for sign in set(_SIGNS.findall(plain)):
            plain = plain.replace(sign, f" {sign} ")
        return tuple(plain.split())
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_MINUS.sub(" \u2212 ", plain).translate(_SEPARATED).split())


def content_words(text: str) -> list[str]:
    """The words of a text without English articles, as SQuAD's metrics compare them."""
    return list(_content_words(text) if len(text) <= MOST_KEPT else _content_words.__wrapped__(text))


@lru_cache(maxsize=512)
def _content_words(text: str) -> tuple[str, ...]:
    return tuple([word for word in words(text) if word not in _ARTICLES])
