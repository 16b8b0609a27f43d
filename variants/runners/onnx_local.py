"""An ONNX model run in this process by onnxruntime-genai."""

import json
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import load_tokenizer
from variants.lookup import need, versions
from variants.method import STRICT
from variants.runners.chat_tokens import Chat, ChatTokens
from variants.runners.local_model import LocalModel
from variants.runners.one_by_one import OneByOne

if TYPE_CHECKING:
    import torch

INSTALL = "pip install onnxruntime-genai==0.18.0"


@dataclass(frozen=True, config=STRICT)
class OnnxRunner:
    """Answers one prompt after the other, reading again only what differs from the prompt before.

    `context` tokens hold prompt and answer. Prompts are put together as by the transformers runner, with the
    tokenizer that lies beside the model.
    """

    context: Annotated[int, Field(ge=16)] = 2048
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    chat: Chat = "auto"
    takes: ClassVar[str | None] = "onnx"

    def open(self, source: LocalModel | None, threads: int | None) -> OneByOne:
        """The model loaded and ready."""
        need("onnxruntime-genai", "The onnx runner", INSTALL, module="onnxruntime_genai")
        if source is None or not (source.directory / "genai_config.json").is_file():
            raise BadInput("The onnx runner needs a directory with genai_config.json, as the method onnx makes it.")
        tokenizer = load_tokenizer(source.directory)
        engine = import_module("onnxruntime_genai")
        try:
            config = engine.Config(str(source.directory))
            if threads is not None:
                session = {"session_options": {"intra_op_num_threads": threads}}
                config.overlay(json.dumps({"model": {"decoder": session}}))
            model = engine.Model(config)
        except RuntimeError as wrong:
            raise BadInput(f"onnxruntime-genai cannot load {source.directory}: {wrong}") from wrong
        told = json.loads((source.directory / "genai_config.json").read_text())["model"]
        ends = told["eos_token_id"] if isinstance(told["eos_token_id"], list) else [told["eos_token_id"]]
        context = min(self.context, told["context_length"])
        tokens = ChatTokens(tokenizer, self.chat, context, self.max_prompt_tokens)
        run_by = {"runner": "onnx", "context": self.context, "chat": self.chat}
        run_by |= {"max_prompt_tokens": self.max_prompt_tokens, **versions("onnxruntime-genai", "transformers")}
        size = sum(path.stat().st_size for path in source.directory.glob("model.onnx*"))
        parameters = engine.GeneratorParams(model)
        parameters.set_search_options(max_length=context, do_sample=False)
        reader = OnnxReader(engine.Generator(model, parameters))
        return OneByOne(reader, tokens, frozenset(ends), source, run_by, size)


class OnnxReader:
    """Reads tokens with a generator of onnxruntime-genai, whose memory goes back to what is still wanted."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __call__(self, known: int, ids: list[int], last: int) -> "torch.Tensor":
        import numpy as np
        import torch

        self._generator.rewind_to(known)
        self._generator.append_tokens(np.array([ids], dtype=np.int32))
        logits = self._generator.get_output("logits")[0, -last:].astype(np.float32)
        return torch.from_numpy(logits)
