"""Matchers: which labels something must carry. `{"route": "chat", "variant": "!base", "signal": "~quality|errors"}`.

A value stands for itself; `!` before it means any other, `~` a regular expression over the whole label, `!~` none that
matches it. A value that begins with one of these signs is written after `=`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from driftline.errors import BadInput

LONGEST = 200  # characters of a pattern; labels are short
OPERATORS = ("!~", "=~", "!=", "=")  # as people write them: LABEL OPERATOR VALUE
Test = Callable[[str], bool]


def read_matchers(texts: Iterable[str]) -> dict[str, str]:
    """Matchers from `route=chat`, `variant!=base`, `signal=~quality|errors`, `route!~test-.*`.

    Raises:
        BadInput: A text without an operator, or a pattern that is none.

    >>> read_matchers(["route=~chat-.*", "variant!=base"])
    {'route': '~chat-.*', 'variant': '!base'}
    """
    stored = {"=": "", "!=": "!", "=~": "~", "!~": "!~"}
    found = {}
    for text in texts:
        match = re.match(r"\s*([\w.-]+)\s*(=~|!~|!=|=)(.*)$", text, re.S)
        if match is None:
            raise BadInput(
                f"{text!r} is no matcher; write LABEL=VALUE, LABEL!=VALUE, LABEL=~PATTERN or LABEL!~PATTERN."
            )
        name, operator, value = match.groups()
        found[name] = stored[operator] + value
    check_matchers(found)
    return found


def write_matcher(name: str, wanted: str) -> str:
    """A stored matcher as people write it.

    >>> write_matcher("route", "!~test"), write_matcher("route", "chat")
    ('route!~test', 'route=chat')
    """
    for sign, operator in (("!~", "!~"), ("~", "=~"), ("!", "!=")):
        if wanted.startswith(sign):
            return f"{name}{operator}{wanted.removeprefix(sign)}"
    return f"{name}={wanted.removeprefix('=')}"


def check_matchers(matchers: Mapping[str, str]) -> None:
    """Refuses what cannot be matched.

    Raises:
        BadInput: A pattern that is none, or a text that is too long.
    """
    for name, wanted in matchers.items():
        if not name or len(name) > LONGEST or len(wanted) > LONGEST:
            raise BadInput(f"A matcher's label and value have at most {LONGEST} characters, the label at least one.")
        try:
            _test(wanted)
        except re.error as wrong:
            raise BadInput(f"The pattern {wanted!r} for {name} cannot be read: {wrong}.") from None


def matches(labels: Mapping[str, str], matchers: Mapping[str, str]) -> bool:
    """Whether labels meet all matchers; a label that is absent counts as empty."""
    return all(_test(wanted)(labels.get(name, "")) for name, wanted in matchers.items())


@lru_cache(maxsize=4096)
def _test(wanted: str) -> Test:
    if wanted.startswith("="):
        return wanted[1:].__eq__
    negated = wanted.startswith("!")
    rest = wanted[1:] if negated else wanted
    if rest.startswith("~"):
        pattern = re.compile(rest[1:])
        return (lambda text: not pattern.fullmatch(text)) if negated else (lambda text: bool(pattern.fullmatch(text)))
    return rest.__ne__ if negated else rest.__eq__


class MatcherIndex:
    """Many sets of matchers, asked for the first that labels meet: cost grows with those that could meet, not with all.

    Each set is filed under one of its plain equalities; only sets without any are tried on everything.
    """

    def __init__(self, several: Sequence[Mapping[str, str]]) -> None:
        self._several = [(place, list(one.items())) for place, one in enumerate(several)]
        self._filed: dict[tuple[str, str], list[int]] = {}
        self._unfiled: list[int] = []
        for place, items in self._several:
            plain = next(((name, wanted) for name, wanted in items if wanted and wanted[0] not in "!~="), None)
            if plain is None:
                self._unfiled.append(place)
            else:
                self._filed.setdefault(plain, []).append(place)

    def first(self, labels: Mapping[str, str]) -> int | None:
        """The place of the first set that the labels meet."""
        candidates = list(self._unfiled)
        for pair in labels.items():
            candidates += self._filed.get(pair, ())
        met = (
            place
            for place in candidates
            if all(_test(wanted)(labels.get(name, "")) for name, wanted in self._several[place][1])
        )
        return min(met, default=None)
