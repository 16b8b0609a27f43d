"""What `init` was told, what the environment says, and the defaults, in that order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from driftline_sdk.faults import swallow

Redact = Callable[[dict[str, Any]], "dict[str, Any] | None"]

MIB = 1 << 20


class UnusableSetting(ValueError):
    """A setting that cannot be used as given; the default stands in for it."""


class Settings(NamedTuple):
    """All that can be set, with its default; every name but `redact` is also `DRIFTLINE_<NAME>` in the environment.

    Sizes are bytes, times seconds. `spool_dir` None means the per-user default folder, an empty string no spool.
    """

    endpoint: str = "http://127.0.0.1:8400"
    api_key: str = ""
    variant: str = ""
    route: str = ""
    sample_rate: float = 1.0
    tags: Mapping[str, str] = {}
    redact: Redact | None = None
    spool_dir: str | None = None
    spool_max_bytes: int = 256 * MIB
    queue_max: int = 10_000
    queue_max_bytes: int = 64 * MIB
    interval_s: float = 0.5
    timeout_s: float = 10.0
    exit_timeout_s: float = 2.0
    follow_threads: bool = True
    enabled: bool = True


def settings(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from arguments, else the environment, else the defaults.

    A value that cannot be used is swallowed as an own error and its default used: a typing mistake in a deployment
    must not stop the application. A name that does not exist raises TypeError in strict mode only.

    >>> settings({"variant": "int4"}, {"DRIFTLINE_SAMPLE_RATE": "0.25"}).sample_rate
    0.25
    """
    environment = os.environ if environment is None else environment
    chosen: dict[str, Any] = {}
    unusable: list[str] = []  # told together: a place of faults is logged once
    for name, parse in _PARSERS.items():
        value = given.get(name)
        source = f"init({name}=)"
        if value is None:
            source = "DRIFTLINE_" + name.upper()
            value = environment.get(source)
        if value is None:
            continue
        try:
            chosen[name] = parse(value)
        except Exception as error:  # noqa: BLE001 - whatever an application hands in
            unusable.append(f"{source} cannot be used ({error}); {name} stays {Settings._field_defaults[name]!r}")
    if unusable:
        swallow(UnusableSetting(". ".join(unusable)), "settings")
    unknown = [name for name in given if name not in _PARSERS]
    if unknown:
        named = ", ".join(map(repr, unknown))
        swallow(TypeError(f"init() has no {named}; it has {', '.join(_PARSERS)}"), "init")
    return Settings(**chosen)


def _endpoint(value: Any) -> str:
    text = str(value).strip().rstrip("/")
    if not text.startswith(("http://", "https://")):
        raise ValueError("needed is a URL that starts with http:// or https://")
    from urllib.parse import urlsplit  # 4 ms that `import driftline_sdk` does not cost

    parts = urlsplit(text)
    typeable = text.isascii() and text.isprintable() and " " not in text
    if not parts.hostname or parts.port == 0 or not typeable:
        raise ValueError("needed is a URL such as https://driftline.example.org:8400")
    return text


def _key(value: Any) -> str:
    text = str(value).strip()
    if not text.isascii() or not text.isprintable():
        raise ValueError("needed is a key of printable ASCII characters")
    return text


def _folder(value: Any) -> str:
    folder = os.fsdecode(value)
    if "\0" in folder:
        raise ValueError("needed is the path of a folder")
    return folder


def _share(value: Any) -> float:
    share = float(value)
    if not 0.0 <= share <= 1.0:
        raise ValueError("needed is a probability from 0 to 1")
    return share


def _count(value: Any) -> int:
    count = int(value)
    if count < 1:
        raise ValueError("needed is a whole number from 1")
    return count


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds <= 3600.0:
        raise ValueError("needed are seconds from 0 to 3600")
    return seconds


def _patience(value: Any) -> float:
    seconds = _seconds(value)
    if not seconds:
        raise ValueError("needed are seconds above 0, at most 3600: in none nobody answers")
    return seconds


def _tags(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("needed is name=value,name=value")
        return {name.strip(): text.strip() for name, _, text in pairs}
    return {str(name): str(text) for name, text in dict(value).items()}


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _SWITCH:
        raise ValueError("needed is 1 or 0")
    return _SWITCH[word]


def _callable(value: Any) -> Redact:
    if not callable(value):
        raise TypeError("needed is a function that takes a record and returns one")
    return value  # type: ignore[no-any-return]


_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "endpoint": _endpoint,
    "api_key": _key,
    "variant": str,
    "route": str,
    "sample_rate": _share,
    "tags": _tags,
    "redact": _callable,
    "spool_dir": _folder,
    "spool_max_bytes": _count,
    "queue_max": _count,
    "queue_max_bytes": _count,
    "interval_s": _seconds,
    "timeout_s": _patience,
    "exit_timeout_s": _seconds,
    "follow_threads": _switch,
    "enabled": _switch,
}
