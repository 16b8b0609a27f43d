"""What a call used, as JSON objects tell it: tokens by their kinds, and money."""

from typing import Any

# field of a record → names of it, the first that is there
_NAMES = {
    "input_tokens": ("input", "input_tokens", "prompt_tokens", "promptTokens", "inputTokens", "prompt_token_count",
                     "promptTokenCount"),
    "output_tokens": ("output", "output_tokens", "completion_tokens", "completionTokens", "outputTokens",
                      "candidates_token_count", "candidatesTokenCount"),
    "total_tokens": ("total", "total_tokens", "totalTokens", "total_token_count", "totalTokenCount"),
}  # fmt: skip
# tag → names of it, also within the objects of details
_DETAILS = {
    "cached_tokens": ("cache_read_input_tokens", "input_cache_read", "input_cached_tokens", "cached_tokens",
                      "cachedContentTokens", "cached_content_token_count", "cachedContentTokenCount"),
    "reasoning_tokens": ("reasoning_tokens", "output_reasoning", "output_reasoning_tokens", "thoughtsTokens",
                         "thoughts_token_count", "thoughtsTokenCount"),
}  # fmt: skip
_DETAILED = ("prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details")
# parts that some count apart from the whole: Anthropic's prompts from a cache, all of Langfuse's kinds
_APART = {
    "input_tokens": ("input_", "cache_read_input_tokens", "cache_creation_input_tokens"),
    "output_tokens": ("output_",),
}
_USAGES = ("usage", "usage_metadata", "usageMetadata", "token_usage")  # names of such an object in a response


def tokens_of(usage: Any) -> dict[str, int]:
    """Tokens of a call by `input_tokens`, `output_tokens`, `cached_tokens` and `reasoning_tokens`, as far as told.

    Whether parts are counted within the whole or apart from it is seen by the total; without one, Langfuse's and
    Anthropic's names say that they are apart.

    >>> tokens_of({"input": 5, "input_cache_read": 16, "output": 2, "total": 23})
    {'input_tokens': 21, 'output_tokens': 2, 'cached_tokens': 16}
    >>> tokens_of({"input_tokens": 21, "output_tokens": 5, "total_tokens": 26, "cache_read_input_tokens": 16})
    {'input_tokens': 21, 'output_tokens': 5, 'cached_tokens': 16}
    """
    if not isinstance(usage, dict):
        return {}
    whole = {field: _first(usage, names) for field, names in _NAMES.items()}
    total = whole.pop("total_tokens")
    if total is None or total != sum(n or 0 for n in whole.values()):
        for field, beginnings in _APART.items():
            if whole[field] is not None:
                names = _NAMES[field]
                parts = [n for name, n in usage.items() if name.startswith(beginnings) and name not in names]
                whole[field] += sum(n for n in parts if type(n) is int)  # type: ignore[operator]
    found = {field: n for field, n in whole.items() if n is not None}
    details = [usage, *(usage[name] for name in _DETAILED if isinstance(usage.get(name), dict))]
    for tag, names in _DETAILS.items():
        n = next((n for place in details if (n := _first(place, names))), None)
        if n:
            found[tag] = n
    return found


def usage_in(response: Any) -> Any:
    """The object of usage in a provider's response; None where there is none."""
    return (
        next((response[name] for name in _USAGES if response.get(name)), None) if isinstance(response, dict) else None
    )


def _first(usage: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        n = number_of(usage.get(name))
        if n is not None and n == n and abs(n) <= 1e15:
            return int(n)
    return None


def cost_of(cost: Any) -> float | None:
    """Dollars of a call from an object of its parts, their sum where no total is told."""
    if not isinstance(cost, dict):
        return None
    parts = [n for n in map(number_of, cost.values()) if n is not None]
    return number_of(cost["total"]) if "total" in cost else sum(parts) if parts else None


def number_of(value: Any) -> float | None:
    """A number, also one that is written as a text; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
