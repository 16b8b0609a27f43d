"""Model and tokenizer from a directory, without a network, within the memory there is."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.errors import BadInput
from variants.free_memory import check_free
from variants.lookup import as_callable, need

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STORAGES = {
    "factors.safetensors": "variants.storage.factors:load",
    "huffman.safetensors": "variants.storage.huffman:load",
    "lora.safetensors": "variants.storage.adapter:load",
}
"""Weights in other shapes than transformers', by the file that shows them, and what makes a model of them again."""
INSTALL = "pip install 'driftline[variants]'"
SPARE_BYTES = 256 * 2**20  # what a process needs beside the weights it loads


def load_model(directory: Path, dtype: str = "auto") -> "PreTrainedModel":
    """The causal language model in `directory`, in evaluation mode, on the CPU.

    Args:
        directory: Holds config.json and *.safetensors (pickled weights are refused).
        dtype: "auto" is the stored one, else a torch name such as "float32".

    Raises:
        BadInput: No such model, only pickled weights, or more weights than free memory; MissingPackage.
    """
    need_transformers()
    check_memory(directory, dtype)
    storage = next((load for name, load in STORAGES.items() if (directory / name).is_file()), None)
    with quietly():
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        try:
            if storage is not None:
                stored: PreTrainedModel = as_callable(storage)(directory)
                return stored
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                str(directory), dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, SafetensorError) as wrong:
            raise BadInput(f"{directory} cannot be loaded as a language model: {wrong}") from wrong
    model.train(False)
    return model


def cast(model: Any, dtype: str) -> "PreTrainedModel":
    """`model` with all its weights as `dtype`, such as "bfloat16"; changed in place."""
    import torch

    changed: PreTrainedModel = model.to(getattr(torch, dtype))
    return changed


def load_tokenizer(directory: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in `directory`, which must bring a padding or an end token.

    Raises:
        BadInput: There is none, or it knows more tokens than the model in the same directory.
    """
    need_transformers()
    with quietly():
        from transformers import AutoTokenizer

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        except (OSError, ValueError, KeyError) as wrong:
            raise BadInput(f"{directory} has no tokenizer that can be loaded: {wrong}") from wrong
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise BadInput(f"The tokenizer in {directory} names neither a padding nor an end token; add one.")
        tokenizer.pad_token = tokenizer.eos_token
    vocabulary = config_of(directory).get("vocab_size")
    if isinstance(vocabulary, int) and len(tokenizer) > vocabulary:
        raise BadInput(
            f"The tokenizer in {directory} has {len(tokenizer)} tokens, the model only {vocabulary}: they do not match."
        )
    return tokenizer


def config_of(directory: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        BadInput: There is none, or it is not a JSON object.
    """
    try:
        read = json.loads((directory / "config.json").read_text())
    except FileNotFoundError as missing:
        raise BadInput(f"{directory} holds no config.json, so no transformers model.") from missing
    except ValueError as wrong:
        raise BadInput(f"{directory}/config.json is not JSON: {wrong}") from wrong
    if not isinstance(read, dict):
        raise BadInput(f"{directory}/config.json must hold an object, not {type(read).__name__}.")
    return read


def weight_bytes(directory: Path) -> int:
    """Size of the weight files in `directory`."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def resident_bytes(model: "torch.nn.Module") -> int:
    """Bytes of all weights as they lie in memory, shared ones once, quantized ones at their packed size."""
    from torch.ao.nn.quantized.modules.linear import LinearPackedParams

    total, seen = 0, set()
    for tensor in (*model.parameters(), *model.buffers()):
        inner = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else []
        for part in [getattr(tensor, name) for name in inner] or [tensor]:
            total += 0 if part.data_ptr() in seen else part.numel() * part.element_size()
            seen.add(part.data_ptr())
    for module in model.modules():
        total += getattr(module, "packed_bytes", 0)
        if isinstance(module, LinearPackedParams):
            weight, bias = module._weight_bias()
            total += weight.numel() * weight.element_size() + (bias.numel() * 4 if bias is not None else 0)
    return total


def check_memory(directory: Path, dtype: str = "auto", times: float = 1.0) -> None:
    """Returns when `times` the weights of `directory`, as `dtype`, fit into free memory.

    Raises:
        BadInput: They do not; says how much there is.
    """
    widths = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2}
    stored = str(config_of(directory).get("dtype") or config_of(directory).get("torch_dtype") or "float32")
    wider = widths.get(dtype, widths.get(stored, 4)) / widths.get(stored, 4)
    check_free(int(weight_bytes(directory) * wider * times) + SPARE_BYTES, f"The model in {directory}")


def need_transformers() -> None:
    """Returns when torch and transformers are installed; else raises MissingPackage.

    Before torch is first imported, asks OpenMP's threads to sleep while they wait: spinning ones make a model with
    two threads on a shared machine several times slower. Set OMP_WAIT_POLICY yourself to decide otherwise.
    """
    need("torch", "Running a local model", INSTALL)
    need("transformers", "Running a local model", INSTALL)
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps the model libraries from printing progress bars and import notes while they load."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    from transformers.utils import logging as bars

    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def linears(model: "torch.nn.Module", skip: tuple[str, ...] = ("lm_head",)) -> "dict[str, torch.nn.Linear]":
    """Every Linear of `model` by its dotted name, except those whose last name part is in `skip`.

    Raises:
        BadInput: There is none, as after a step that replaces them.
    """
    import torch

    every = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    found = {name: module for name, module in every.items() if name.rpartition(".")[2] not in skip}
    if not found:
        raise BadInput(
            f"{type(model).__name__} has no Linear layer left to change: {len(every)} are there, {', '.join(skip)} are "
            "skipped. A step that replaces the layers (int8_dynamic, packed) must come after this one."
        )
    return found


def decoder_layers(model: "PreTrainedModel") -> "torch.nn.ModuleList":
    """The list of transformer blocks.

    Raises:
        BadInput: The architecture keeps them in no single list.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if len(found) != 1:
        raise BadInput(f"{type(model).__name__} keeps its {count} layers in {len(found)} lists; one was expected.")
    return found[0]
