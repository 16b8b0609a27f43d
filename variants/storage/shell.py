"""A model without weights, and the weights put into it: what every storage needs to open its own files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from driftline.errors import BadInput

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def shell(directory: Path) -> "PreTrainedModel":
    """The model that config.json describes, its parameters without memory (on the meta device)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(str(directory), local_files_only=True)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    if (directory / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(directory), local_files_only=True)
    return model


def fill(model: "PreTrainedModel", weights: "Mapping[str, torch.Tensor]") -> None:
    """Makes `weights` the parameters of a `shell`, ties what is tied, and computes what no file holds.

    Raises:
        BadInput: Weights are missing, or there are some the model has no place for.
    """
    import torch

    answer = model.load_state_dict(dict(weights), strict=False, assign=True)
    model.tie_weights()
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if left or answer.unexpected_keys:
        raise BadInput(f"The stored weights do not fit the model: {[*left, *answer.unexpected_keys][:5]}.")
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):  # rotary tables: made from the config
            made = type(module)(model.config.get_text_config()).to(torch.device("cpu"))
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, made)
    model.requires_grad_(False)


def tensors(directory: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """Every stored tensor of a transformers directory, one at a time."""
    from safetensors import safe_open

    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (an open safetensors file is no mapping)
                yield name, file.get_tensor(name)
