"""Early exit: where a middle layer is already sure of the next token, the layers above it are not computed."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import decoder_layers
from variants.method import STRICT, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=STRICT)
class EarlyExit:
    """After layer number `layer`, a token whose likeliest successor has at least `confidence` leaves the model.

    Asked after that layer, through the model's own last norm and output matrix, and only while decoding (Schuster et
    al. 2022, "CALM"). The layers left out still get their keys and values, computed from the state that left, so later
    tokens can look back. In a batch all rows must be sure. `exit_tokens` and `exit_early` are counted. Models that
    were not trained for it are rarely sure early, and then asking costs more than it saves: measure.
    """

    layer: Annotated[int, Field(ge=0)]
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.9
    stage: ClassVar[Stage] = "runtime"
    revision: ClassVar[int] = 1

    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """`model`, its upper layers left out where the middle one is sure."""
        blocks: Any = decoder_layers(model)
        inner: Any = getattr(model, "model", None)
        first = blocks[0]
        if not (hasattr(inner, "norm") and hasattr(first, "self_attn") and hasattr(first, "input_layernorm")):
            raise BadInput(f"{type(model).__name__} is not built like Llama, which early_exit needs.")
        if self.layer >= len(blocks) - 1:
            raise BadInput(f"The model has {len(blocks)} layers; leaving after layer {self.layer} leaves nothing out.")
        gate = Gate(model, self.confidence)
        blocks[self.layer].register_forward_hook(gate.ask)
        for block in blocks[self.layer + 1 :]:
            block.forward = _leaving(block, block.forward, gate)
        model.counts = gate.counted  # type: ignore[assignment]
        return model


class Gate:
    """Remembers, from the asking layer to the last, whether this token has left."""

    def __init__(self, model: Any, confidence: float) -> None:
        self._model, self._confidence = model, confidence
        self.left = False
        self.counted: Counter[str] = Counter()

    def ask(self, _module: Any, _entering: Any, output: Any) -> None:
        """The hook after the asking layer."""
        hidden = output[0] if isinstance(output, tuple) else output
        self.left = False
        if hidden.shape[1] == 1:
            logits = self._model.lm_head(self._model.model.norm(hidden[:, -1:])).float()
            self.left = bool((logits.softmax(-1).amax(-1) >= self._confidence).all())
            self.counted["exit_tokens"] += hidden.shape[0]
            self.counted["exit_early"] += hidden.shape[0] * self.left


def _leaving(block: Any, forward: Any, gate: Gate) -> Any:
    """`forward` of a layer, or only its keys and values where the token has left."""

    def either(hidden_states: Any, *positional: Any, **named: Any) -> Any:
        if not gate.left:
            return forward(hidden_states, *positional, **named)
        cache, (cos, sin) = named.get("past_key_values"), named["position_embeddings"]
        if cache is not None:
            attention = block.self_attn
            entering = block.input_layernorm(hidden_states)
            shape = (*entering.shape[:-1], -1, attention.head_dim)
            keys = attention.k_proj(entering).view(shape).transpose(1, 2)
            values = attention.v_proj(entering).view(shape).transpose(1, 2)
            half = keys.shape[-1] // 2
            turned = (-keys[..., half:], keys[..., :half])
            import torch

            keys = keys * cos.unsqueeze(1) + torch.cat(turned, dim=-1) * sin.unsqueeze(1)
            cache.update(keys, values, attention.layer_idx)
        return hidden_states

    return either
