"""What flows into a model's layers, seen on a little text that comes along where the recipe brings none."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS: tuple[str, ...] = (
    "The water cycle describes how water moves above, on and below the surface of the Earth. Heat from the sun "
    "evaporates water from oceans and lakes, plants give off more, and the vapour rises, cools and condenses into "
    "clouds. When the drops grow heavy enough they fall as rain or snow, run off into rivers and seep into the ground.",
    "To bake a simple loaf of bread, mix five hundred grams of flour with three hundred and fifty millilitres of warm "
    "water, seven grams of dry yeast and ten grams of salt. Knead the dough for ten minutes, let it rest for an hour, "
    "shape it, let it rise again, and bake it at two hundred and twenty degrees for thirty-five minutes.",
    "Question: A train leaves at 9:40 and arrives at 12:05. How long does the journey take?\n"
    "Answer: From 9:40 to 12:00 is two hours and twenty minutes; five minutes more make two hours and 25 minutes.",
    'def mean(values):\n    """Average of a non-empty list of numbers."""\n    if not values:\n'
    '        raise ValueError("no values")\n    return sum(values) / len(values)\n',
    "The council met on Tuesday evening to discuss the new bus line. Several residents spoke in favour, saying that "
    "the journey to the hospital now takes more than an hour, while others worried about noise and the loss of "
    "parking. A decision is expected before the end of the month, the mayor said.",
    "Dear Ms Okafor, thank you for your order. Two of the three items were sent this morning and should reach you "
    "within four working days. The third, a desk lamp, is out of stock; we expect it on the 14th and will send it "
    "without extra cost. If you would rather have your money back, simply answer this message.",
    "Photosynthesis takes place in the chloroplasts of plant cells. Chlorophyll absorbs mainly blue and red light, and "
    "the energy drives the splitting of water into oxygen, protons and electrons. In the Calvin cycle, carbon dioxide "
    "is then fixed into sugars that the plant uses or stores.",
    "Once upon a time an old fisherman lived by the sea with his daughter. Every morning he rowed out before sunrise, "
    "and every evening she lit a lamp in the window so that he would find his way home. One winter night the lamp "
    "went out, and nobody in the village dared to go down to the shore.",
)


def read(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    modules: "Iterable[torch.nn.Module]",
    listen: "Callable[[torch.nn.Module, torch.Tensor], None]",
) -> None:
    """Lets `model` read `texts`; calls `listen(module, input)` with what enters each module, as (tokens, width)."""
    import torch

    def hook(module: Any, entering: Any) -> None:
        listen(module, entering[0].detach().flatten(0, -2))

    with ExitStack() as hooks, torch.inference_mode():
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(hook).remove)
        for text in texts:
            model(input_ids=tokenizer(text, return_tensors="pt").input_ids, use_cache=False)


def input_norms(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    modules: "Iterable[torch.nn.Module]",
) -> "dict[torch.nn.Module, torch.Tensor]":
    """Per module, the root mean square of each input channel over all tokens of `texts`: float32 (inputs,)."""
    squares: dict[torch.nn.Module, torch.Tensor] = {}
    tokens: dict[torch.nn.Module, int] = {}

    def listen(module: "torch.nn.Module", entering: "torch.Tensor") -> None:
        squares[module] = squares.get(module, 0.0) + entering.float().square().sum(0)
        tokens[module] = tokens.get(module, 0) + entering.shape[0]

    read(model, tokenizer, texts, modules, listen)
    return {module: (total / tokens[module]).sqrt() for module, total in squares.items()}
