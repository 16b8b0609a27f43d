"""Plans by cause: what could repair a variant that got worse, as recipes of candidates."""

from typing import Any

Candidate = dict[str, Any]  # {"name", "spec", "why"}


def candidates_for(name: str, spec: dict[str, Any], baseline: tuple[str, dict[str, Any]] | None) -> list[Candidate]:
    """Candidates that may replace a variant whose quality fell, cheapest first.

    A quantized variant is rebuilt with its sensitive layers left out, with more bits, and in half precision; any other
    falls back to what its baseline would be in half precision. A variant that is no chain of recipes (an API, recorded
    answers) has no candidates of its own: going back to its baseline (name and spec) is all that can be proposed.
    """
    chain = list(spec.get("chain", ()))
    if spec.get("runner") != "transformers" or not chain:
        return [{"name": baseline[0], "spec": baseline[1], "why": "go back to the baseline"}] if baseline else []
    last = chain[-1]
    repairs = [step for step in _REPAIRS.get(last["method"], []) if step != last and step not in chain]
    options = [([*chain[:-1], step], why) for step, why in (_explained(step) for step in repairs)]
    if not options:
        options = [([*chain[:1], _BF16], _WHY["bf16"])]
    return [
        {
            "name": f"{name}-repair-{chosen[-1]['method']}".replace("_", "-"),
            "spec": {**spec, "chain": chosen},
            "why": why,
        }
        for chosen, why in options
    ]


_BF16 = {"method": "bf16", "config": {}}
_INT8_WEIGHTS = {"method": "int8_weight_only", "config": {}}
_INT8_SPARING = {"method": "int8_dynamic", "config": {"skip": ["down_proj", "lm_head"]}}
_REPAIRS: dict[str, list[dict[str, Any]]] = {
    "int8_dynamic": [_INT8_SPARING, _INT8_WEIGHTS, _BF16],
    "int4_per_row": [{"method": "int4_group", "config": {}}, _INT8_WEIGHTS, _BF16],
    "int4_group": [_INT8_WEIGHTS, _BF16],
    "int8_weight_only": [_BF16],
}
_WHY = {
    "int8_dynamic": "keep the layers with activation outliers in full precision",
    "int4_group": "more scales: one per group of weights instead of one per row",
    "int8_weight_only": "more bits: eight per weight, activations left as they are",
    "bf16": "half precision instead of integers",
}


def _explained(step: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return step, _WHY[step["method"]]
