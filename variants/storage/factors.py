"""Matrices as two thin factors: the product is never formed, so bytes and arithmetic fall with the rank."""

from pathlib import Path
from typing import TYPE_CHECKING

from variants.storage.shell import fill, shell

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FILE = "factors.safetensors"
DOWN, UP = ".0.weight", ".1.weight"  # what a factored Linear's two matrices are called


def save(model: "PreTrainedModel", directory: Path) -> None:
    """Writes a model some of whose Linear layers are `factored`."""
    from safetensors.torch import save_file

    tied = {name for name, value in model.named_parameters(remove_duplicate=False)} - {
        name for name, _ in model.named_parameters()
    }
    state = {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied}
    save_file(state, directory / FILE)
    model.config.save_pretrained(directory)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(directory)


def load(directory: Path) -> "PreTrainedModel":
    """The model that `save` wrote."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(directory / FILE)
    model = shell(directory)
    for name in [name.removesuffix(DOWN) for name in weights if name.endswith(DOWN)]:
        up, down = weights[name + UP], weights[name + DOWN]
        with torch.device("meta"):
            replace(model, name, factored(up, down, weights.get(f"{name}.1.bias")))
    fill(model, weights)
    return model


def factored(up: "torch.Tensor", down: "torch.Tensor", bias: "torch.Tensor | None") -> "torch.nn.Module":
    """up·(down·x) + bias, for `up` (rows, rank) and `down` (rank, columns)."""
    import torch

    first = torch.nn.Linear(down.shape[1], down.shape[0], bias=False, dtype=down.dtype)
    second = torch.nn.Linear(up.shape[1], up.shape[0], bias=bias is not None, dtype=up.dtype)
    if not first.weight.is_meta:
        first.weight.data, second.weight.data = down, up
        if bias is not None:
            second.bias.data = bias
    return torch.nn.Sequential(first, second)


def replace(model: "torch.nn.Module", name: str, module: "torch.nn.Module") -> None:
    """Puts `module` in the place `name` of `model`."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
