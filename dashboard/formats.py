"""How numbers, moments and names are written on the pages. All return plain text, or Markup where they make tags."""

import math
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from driftline.moment import DAY, HOUR, MINUTE, SECOND, iso

NONE = "–"
MINUS = "\u2212"

TONES = {
    "good": {"better", "equivalent", "not_worse", "promoted", "production", "done", "sent", "resolved", "closed",
             "watching", "built", "alive", "ok", "acknowledged", "healthy"},
    "bad": {"error", "worse", "firing", "failed", "alarmed", "open", "rolled_back", "silent", "drifting"},
    "wait": {"undecided", "proposed", "approved", "building", "replaying", "gated", "running", "queued", "sending",
             "aborted", "collecting", "canary", "shadow", "ready", "requested", "restarted"},
}  # fmt: skip


def tone(state: str) -> str:
    """The colour family of a state or a verdict: good, bad, wait or quiet.

    >>> tone("worse"), tone("candidate")
    ('bad', 'quiet')
    """
    return next((name for name, states in TONES.items() if state in states), "quiet")


def words(state: str) -> str:
    """A stored name as people read it.

    >>> words("not_worse")
    'not worse'
    """
    return state.replace("_", " ")


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, thousands apart, no exponent.

    >>> number(1234567), number(0.031249), number(-2.5), number(None)
    ('1,234,567', '0.0312', '−2.5', '–')
    """
    if value is None or not math.isfinite(value):
        return NONE
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace("-", MINUS)
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:.{max(0, min(places, 8))}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def tokens(count: float | None) -> str:
    """How many tokens.

    >>> tokens(1), tokens(1200), tokens(None)
    ('1 token', '1,200 tokens', '– tokens')
    """
    return f"{number(count)} token{'' if count == 1 else 's'}"


def score(value: float | None) -> str:
    """A score in [0, 1], three places, so that columns line up.

    >>> score(0.5)
    '0.500'
    """
    return NONE if value is None else f"{value:.3f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference of scores with its sign, three places.

    >>> signed(0.02), signed(-0.2125)
    ('+0.020', '−0.212')
    """
    return NONE if value is None else f"{value:+.3f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """A share as a percentage; never rounds up to 100 or down to 0.

    >>> share(0.99996), share(1.0), share(0.5), share(0.0001)
    ('> 99.9 %', '100 %', '50.0 %', '< 0.1 %')
    """
    if value is None:
        return NONE
    if 0.999 < value < 1:
        return "> 99.9 %"
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{value * 100:.0f} %" if value in (0, 1) else f"{value * 100:.1f} %"


def percent(value: float | None) -> str:
    """A share as a percentage with three significant digits, for levels and promises.

    >>> percent(0.95), percent(0.00333)
    ('95 %', '0.333 %')
    """
    return NONE if value is None else f"{number(value * 100)} %"


def chance(value: float | None) -> str:
    """A p-value or another small figure.

    >>> chance(0.00001), chance(0.0312), chance(None)
    ('< 0.0001', '0.0312', '–')
    """
    return "< 0.0001" if value is not None and 0 <= value < 1e-4 else number(value)


def ms(value: float | None) -> str:
    """Milliseconds, or seconds from ten thousand on.

    >>> ms(812.4), ms(3.21), ms(12_345)
    ('812 ms', '3.21 ms', '12.3 s')
    """
    if value is None:
        return NONE
    return f"{number(value / 1000)} s" if abs(value) >= 10_000 else f"{number(value)} ms"


def dollars(nano: float | None) -> str:
    """Nano-dollars as dollars.

    >>> dollars(1_500_000_000), dollars(1_234_000), dollars(0)
    ('$1.50', '$0.00123', '$0')
    """
    if nano is None:
        return NONE
    if nano == 0:
        return "$0"
    return f"${nano / 1e9:,.2f}" if abs(nano) >= 1e8 else f"${number(nano / 1e9)}"


def size(count: float | None) -> str:
    """Bytes in decimal units.

    >>> size(538_000_000)
    '538 MB'
    """
    if count is None:
        return NONE
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{number(count / scale)} {unit}"
    return f"{count:.0f} B"


def duration(us: float | None) -> str:
    """A length of time in its two largest units.

    >>> duration(93 * SECOND), duration(26 * HOUR), duration(400_000)
    ('1 min 33 s', '1 d 2 h', '0.4 s')
    """
    if us is None:
        return NONE
    if us < 10 * SECOND:
        return f"{number(us / SECOND, 2)} s"
    parts, rest = [], int(us)
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2])


def moment(us: int | None) -> Markup:
    """A moment as a time element, in UTC to the second; the script adds how long ago that is."""
    if us is None:
        return escape(NONE)
    text = iso(us)
    return Markup('<time datetime="{}">{} {} <abbr title="Coordinated Universal Time">UTC</abbr></time>').format(
        text, text[:10], text[11:19]
    )


def clock(us: int | None) -> str:
    """The time of day of a moment, UTC, where the day is said nearby.

    >>> clock(0)
    '00:00:00'
    """
    return NONE if us is None else iso(us)[11:19]


def value(anything: Any) -> str:
    """Whatever a document holds under a key: numbers as numbers, yes and no as words.

    >>> value(True), value(0.25), value("fall")
    ('yes', '0.25', 'fall')
    """
    if isinstance(anything, bool):
        return "yes" if anything else "no"
    return number(anything) if isinstance(anything, int | float) else str(anything)


def effect(value: float | None, unit: str | None, *, sign: bool = False) -> str:
    """A drift event's figure in its unit: score, share or ms.

    >>> effect(-0.2, "score", sign=True), effect(0.05, "share", sign=True), effect(120.0, "ms")
    ('−0.200', '+5.0 points', '120 ms')
    """
    if value is None:
        return NONE
    plus = "+" if sign and value > 0 else ""
    if unit == "ms":
        return plus + ms(value)
    if unit == "share":
        points = f"{value * 100:.1f}".replace("-", MINUS)
        return f"{plus}{points} points" if sign else f"{points} %"
    return signed(value) if sign else score(value)


def short(digest: str | None) -> str:
    """The first twelve letters of a hash."""
    return (digest or NONE)[:12]


def path(*parts: Any) -> str:
    """A page's path, names quoted; slashes in names stay.

    >>> path("variants", "org/model?")
    '/variants/org/model%3F'
    """
    return "/" + "/".join(quote(str(part), safe="/:@") for part in parts)


def prompt(messages: Any) -> Markup:
    """The messages of a prompt, each under its role; a single user message stands alone. Escaped."""
    listed = [message for message in messages or [] if isinstance(message, dict)]
    if len(listed) == 1:
        return escape(str(listed[0].get("content", "")))
    lines = [
        Markup('<b class="role">{}</b> {}').format(message.get("role", ""), message.get("content", ""))
        for message in listed
    ]
    return Markup("\n").join(lines)


FILTERS = {
    "tone": tone, "words": words, "number": number, "tokens": tokens, "score": score, "signed": signed, "share": share,
    "ms": ms, "dollars": dollars, "size": size, "duration": duration, "moment": moment, "effect": effect,
    "short": short, "prompt": prompt, "percent": percent, "chance": chance, "clock": clock, "value": value,
}  # fmt: skip
