"""4-bit weights, each rounding error made good by the weights not yet rounded."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import decoder_layers, linears
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS
from variants.methods.int4 import packed_bytes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DAMPING = 0.01  # of the mean diagonal, added to it: few calibration tokens leave directions unseen


@dataclass(frozen=True, config=STRICT)
class Gptq:
    """Each Linear of the layers on 16 levels, one scale per `group` neighbouring weights of a row, by GPTQ.

    Columns are rounded one after the other, and what a rounding changes in the layer's output on the `calibration`
    texts is balanced by the columns to come (Frantar et al. 2022). Layers are done in order, each on what the
    rounded ones before it really give. The levels are written back at the model's width, as with `int4_group`.
    """

    group: Annotated[int, Field(ge=8)] = 64
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        import torch

        layers = decoder_layers(model)
        for name, linear in linears(layers).items():
            if linear.in_features % self.group:
                raise BadInput(
                    f"{name} has {linear.in_features} inputs, which groups of {self.group} do not divide. "
                    "Choose another group."
                )
        with torch.inference_mode():
            entering = entering_first_layer(model, tokenizer, self.calibration)
            for number, layer in enumerate(layers):
                say(f"rounding layer {number + 1}/{len(layers)}")
                for linear, gram in grams(layer, entering).items():
                    linear.weight.data.copy_(rounded(linear.weight.float(), gram, self.group))
                entering = [((through(layer, place, named),), named) for place, named in entering]
        return model, {"packed_bytes": packed_bytes(model, linears(layers).values(), self.group)}


Call = tuple[tuple[Any, ...], dict[str, Any]]


def entering_first_layer(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]
) -> list[Call]:
    """Per text, the positional and named arguments that the first layer is called with."""
    calls: list[Call] = []

    def hook(_module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not positional:
            positional = (named.pop("hidden_states"),)
        calls.append((positional, {**named, "past_key_values": None, "use_cache": False}))

    handle = decoder_layers(model)[0].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        for text in texts:
            model(input_ids=tokenizer(text, return_tensors="pt").input_ids, use_cache=False)
    finally:
        handle.remove()
    return calls


def through(layer: "torch.nn.Module", positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The hidden states that `layer` gives."""
    output = layer(*positional, **named)
    return output[0] if isinstance(output, tuple) else output


def grams(layer: "torch.nn.Module", entering: Sequence[Call]) -> "dict[torch.nn.Linear, torch.Tensor]":
    """Per Linear of `layer`, the mean of xᵀx over all tokens x that enter it: float32 (inputs, inputs)."""
    found: dict[torch.nn.Linear, torch.Tensor] = {}
    tokens: dict[torch.nn.Linear, int] = {}

    def hook(module: Any, positional: tuple[Any, ...]) -> None:
        seen = positional[0].flatten(0, -2).float()
        found[module] = found.get(module, 0.0) + seen.T @ seen
        tokens[module] = tokens.get(module, 0) + len(seen)

    hooks = [linear.register_forward_pre_hook(hook) for linear in linears(layer).values()]
    try:
        for positional, named in entering:
            through(layer, positional, named)
    finally:
        for handle in hooks:
            handle.remove()
    return {module: total / tokens[module] for module, total in found.items()}


def rounded(weight: "torch.Tensor", gram: "torch.Tensor", group: int) -> "torch.Tensor":
    """float32 `weight` (rows, columns) on scale · {-8…7} by groups of columns, its errors under `gram` made good."""
    import torch

    weight = weight.clone()
    damped = gram + torch.eye(len(gram)) * (DAMPING * gram.diagonal().mean()).clamp(min=1e-8)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    for first in range(0, weight.shape[1], group):
        last = first + group
        own, errors = weight[:, first:last], torch.zeros(weight.shape[0], group)
        scale = (own.abs().amax(1) / 7).clamp(min=1e-12)
        for place in range(group):
            level = (own[:, place] / scale).round().clamp(-8, 7) * scale
            errors[:, place] = (own[:, place] - level) / inverse[first + place, first + place]
            own[:, place:] -= errors[:, place, None] * inverse[first + place, first + place : last]
            own[:, place] = level
        weight[:, last:] -= errors @ inverse[first:last, last:]
    return weight
