"""Personal data and secrets are replaced before a text reaches the disk.

Nearly every text holds nothing to replace, so each kind of thing has a test of a microsecond or two that says "surely
not": the text is mapped byte by byte to its shape (digits, separators, long runs) and a fixed string is looked for in
that. Only what passes is searched with the exact pattern, and numbers must also pass their checksum.
"""

import hashlib
import re

_DIGITS = b"0123456789"
_WORD = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def _table(kept: bytes, to: int) -> bytes:
    return bytes(to if byte in kept else 32 for byte in range(256))


_DIGIT_SHAPE = _table(_DIGITS, ord("0"))
_SEPARATORS = b" -./()+"
_RUN_SHAPE = _table(_WORD, ord("a"))
_HEX = b"0123456789abcdefABCDEF"
_NUMERIC = _DIGITS + b".:"
_NOT_NUMERIC = bytes(byte for byte in range(256) if byte not in _NUMERIC)

_MIN_PHONE = 9  # digits; a date has eight
_LONG_NUMBER = b"0" * _MIN_PHONE  # once the separators are gone
_LONG_RUN = b"a" * 20  # shortest secret
_SECRET_BEGINNINGS = (
    b"sk-", b"sk_", b"pk-", b"pk_", b"rk-", b"rk_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_",
    b"glpat-", b"AKIA", b"ASIA", b"AIza", b"xox", b"hf_", b"dl_", b"eyJ", b"-----BEGIN",
)  # fmt: skip


def _holds_secret(raw: bytes) -> bool:
    # Random ids make long runs too, so it matters how a run begins and what stands before it.
    shape = raw.translate(_RUN_SHAPE)
    place = shape.find(_LONG_RUN)
    while place >= 0:
        start = shape.rfind(b" ", 0, place) + 1
        if raw.startswith(_SECRET_BEGINNINGS, start):
            return True
        before = raw[max(start - 16, 0) : start].rstrip(b" \"'").lower()
        if before.endswith((b"=", b":", b"bearer", b"token", b"key", b"secret", b"password", b"key-----\n")):
            return True
        end = shape.find(b" ", place)
        place = shape.find(_LONG_RUN, end) if end >= 0 else -1
    return False


def redact(text: str) -> str:
    """The text with emails, phone, card and account numbers, keys and IP addresses replaced by their kind in brackets.

    >>> redact("Write to ana@example.org or +49 30 901820, card 4111 1111 1111 1111.")
    'Write to [email] or [phone], card [card].'
    """
    raw = text.encode("utf-8", "replace")
    if _holds_secret(raw):
        text = _SECRET.sub(_hide_secret, text)
    if b"@" in raw:
        text = _EMAIL.sub("[email]", text)
    numeric = raw.translate(None, _NOT_NUMERIC)  # few bytes of most texts
    marks = numeric.translate(None, _DIGITS)
    digits = len(numeric) - len(marks)
    if digits >= _MIN_PHONE and _LONG_NUMBER in raw.translate(_DIGIT_SHAPE, _SEPARATORS):
        text = _IBAN.sub(_hide_iban, text)
        text = _CARD.sub(_hide_cards, text)
        text = _PHONE.sub(_hide_phone, text)
    if (digits >= 4 and b"..." in marks) or b"::" in marks:
        bare = raw.translate(None, _HEX)  # of an address only its dots or colons are left
        if b"..." in bare or b"::" in bare:
            text = _IPV4.sub("[ip]", text)
            text = _IPV6.sub(lambda found: "[ip]" if _is_ipv6(found[0]) else found[0], text)
    return text


def pseudonym(name: str) -> str:
    """The name itself, or a stable stand-in where it holds personal data (an email as a user id).

    The same name has the same stand-in everywhere, so a user's records can still be grouped, and erased.
    """
    return name if redact(name) == name else "anon:" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:24]


_EMAIL = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}")

_IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")

_CARD = re.compile(r"(?<![\w.])[0-9](?:[ \-]?[0-9]){12,}(?!\w)")

_PHONE = re.compile(
    r"""(?<![\w+.\-])(?:
      (?:\+|00)[1-9][0-9]{0,2}[ .\-/]?(?:\([0-9]{1,4}\)[ .\-/]?)?[0-9](?:[ .\-/]?[0-9]){5,12}  # +49 (0)30 901820
    | (?:1[ .\-])?\([0-9]{2,5}\)[ .\-]?[0-9]{3,4}[ .\-]?[0-9]{3,5}                              # (555) 123-4567
    | (?:1[ .\-])?[0-9]{3}[ .\-][0-9]{3}[ .\-][0-9]{4}                                          # 555-123-4567
    | 0[0-9]{1,4}[ /\-][0-9]{3,8}(?:[ \-][0-9]{2,6}){0,2}                                       # 0171 2345678
    )(?![\w])""",
    re.VERBOSE,
)

_IPV4 = re.compile(
    r"(?<![\w.])(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})){3}(?![\w]|\.[0-9])"
)
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")

_SECRET = re.compile(
    r"""
      \b(?:sk|pk|rk)[-_][A-Za-z0-9_\-]{17,}           # OpenAI, Anthropic, Stripe
    | \bgh[pousr]_[A-Za-z0-9]{30,} | \bgithub_pat_[A-Za-z0-9_]{30,} | \bglpat-[A-Za-z0-9_\-]{20,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                   # AWS
    | \bAIza[0-9A-Za-z_\-]{35}                        # Google
    | \bxox[abeprs]-[A-Za-z0-9\-]{15,}                # Slack
    | \bhf_[A-Za-z0-9]{30,} | \bdl_[A-Za-z0-9_\-]{40,}
    | \beyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}(?:\.[A-Za-z0-9_\-]*)?  # JSON Web Token
    | -----BEGIN[ A-Z]{0,32}PRIVATE[ ]KEY-----[^-]{0,20000}(?:-----END[ A-Z]{0,32}PRIVATE[ ]KEY-----)?
    | (?P<named>(?i:\b(?:api[_-]?key|access[_-]?key|secret|token|password|bearer)["']?\s{0,3}[:= ]\s{0,3}["']?))
      [A-Za-z0-9_\-./+=]{20,}
    """,
    re.VERBOSE,
)


def _hide_secret(found: re.Match[str]) -> str:
    return (found["named"] or "") + "[secret]"


def _hide_cards(found: re.Match[str]) -> str:
    # Other numbers may stand before and after, so every stretch of whole groups of digits is tried.
    parts = re.split(r"([ \-])", found[0])  # digits, separator, digits, …
    kept, start = [], 0
    while start < len(parts):
        end = _end_of_card(parts, start)
        kept += ["[card]", *parts[end : end + 1]] if end else parts[start : start + 2]
        start = (end or start + 1) + 1
    return "".join(kept)


def _end_of_card(parts: list[str], start: int) -> int:
    digits, end = "", 0
    for place in range(start, min(start + 38, len(parts)), 2):
        digits += parts[place]
        if 13 <= len(digits) <= 19 and digits[0] in "23456" and _is_luhn(digits):
            end = place + 1
    return end


def _is_luhn(text: str) -> bool:
    # From the right, every second digit doubled, digits of the products added: the sum ends in 0.
    digits = [int(c) for c in reversed(text)]
    return (sum(digits[::2]) + sum(2 * d - 9 * (d > 4) for d in digits[1::2])) % 10 == 0


def _hide_phone(found: re.Match[str]) -> str:
    return "[phone]" if sum(map(str.isdigit, found[0])) >= _MIN_PHONE else found[0]


def _hide_iban(found: re.Match[str]) -> str:
    # A word in capitals may follow and be taken for a group of four, so groups are given back until the sum is right.
    text = found[0]
    end = len(text)
    while end >= 15:
        if _is_iban(text[:end].replace(" ", "")):
            return "[iban]" + text[end:]
        end = text.rfind(" ", 0, end)
    return text


def _is_iban(text: str) -> bool:
    # ISO 13616: country and checksum go to the end, letters become 10…35, and the number is 1 modulo 97.
    return 15 <= len(text) <= 34 and int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _is_ipv6(text: str) -> bool:
    groups = text.split(":")
    if "::" in text:
        return text.count("::") == 1 and len(text) > 3 and any(len(g) > 1 or g.isdigit() for g in groups)
    return len(groups) == 8 and all(groups)
