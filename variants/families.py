"""Short ways to say a step: families of methods with one number, and settings of how a model is served."""

from collections.abc import Mapping
from typing import Any

from driftline.errors import BadInput
from variants.recipe import Recipe, Spec

BITS = {16: "bf16", 8: "int8_weight_only", 4: "int4_weight_only"}
SERVED = {"batching": ("size", "batch_size"), "prefix_reuse": ("prefixes", "prefix_cache")}  # runner settings
RUNNERS = {"gguf": "llama_cpp", "onnx": "onnx"}  # who runs the format that a chain ends in


def child(parent: Spec, method: str, config: Mapping[str, Any]) -> Spec:
    """`parent` and one step more, run by whoever can run what comes out.

    `quantize` (`bits` 16, 8 or 4) and `prune` (`share` or `pattern`) stand for the method that does it; `batching`
    (`size`) and `prefix_reuse` (`prefixes`) change how the same model is served.

    Raises:
        BadInput: As `Recipe` and `Spec`, or bits that no method gives.

    >>> from variants.recipe import spec
    >>> child(spec("transformers", "smollm2"), "quantize", {"bits": 8}).chain[-1].method
    'int8_weight_only'
    """
    told = dict(config)
    if method in SERVED:
        said, setting = SERVED[method]
        if set(told) != {said}:
            raise BadInput(f"{method} takes {said}, as in --{said} 8; given: {', '.join(told) or 'nothing'}.")
        return Spec(parent.runner, {**parent.runner_config, setting: told[said]}, parent.chain)
    if method == "quantize":
        bits = told.pop("bits", None)
        if bits not in BITS:
            raise BadInput(
                f"quantize takes --bits 16, 8 or 4, not {bits}. Other methods: gguf, onnx, gptq, int8_dynamic."
            )
        method = BITS[bits]
    elif method == "prune":
        method = "wanda"
    return made(parent.runner, parent.runner_config, (*parent.chain, Recipe(method, told)))


def made(runner: str, config: Mapping[str, Any], chain: tuple[Recipe, ...]) -> Spec:
    """The spec of a chain, with the runner of its format where `runner` is the usual one of another."""
    gives = [recipe.step.gives for recipe in chain if recipe.stage == "export"]
    fits = RUNNERS.get(gives[-1] if gives else "", runner)
    return Spec(fits, config if fits == runner else {}, chain)
