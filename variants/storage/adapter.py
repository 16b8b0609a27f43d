"""A base model with a LoRA adapter beside it, not merged: the adapter is applied when the model is opened."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from variants.loading import INSTALL
from variants.lookup import need

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "lora.safetensors"
CONFIG = "lora.json"


def adapted(model: "PreTrainedModel", rank: int, alpha: int, targets: tuple[str, ...]) -> "PreTrainedModel":
    """`model` with fresh LoRA pairs on the Linear layers named in `targets`; only these can be trained."""
    need("peft", "LoRA adapters", INSTALL)
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0)
    inject_adapter_in_model(config, model)  # in place
    return model


def save(model: "PreTrainedModel", config: dict[str, Any], parent: Path, directory: Path) -> None:
    """Writes the adapter of an `adapted` model, and the parent's weights as links to the same bytes."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in get_peft_model_state_dict(model).items()}
    save_file(state, directory / FILE)
    (directory / CONFIG).write_text(json.dumps(config, sort_keys=True))
    for path in sorted(parent.glob("*.safetensors")):
        try:
            os.link(path, directory / path.name)
        except OSError:  # another file system
            shutil.copyfile(path, directory / path.name)


def load(directory: Path) -> "PreTrainedModel":
    """The base model with the adapter applied, its weights frozen."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    told = json.loads((directory / CONFIG).read_text())
    base = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype="auto", local_files_only=True, use_safetensors=True
    )
    model = adapted(base, told["rank"], told["alpha"], tuple(told["targets"]))
    set_peft_model_state_dict(model, load_file(directory / FILE))
    model.requires_grad_(False)
    return model
