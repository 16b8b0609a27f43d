"""A GGUF file run in this process by llama.cpp: quantized kernels that are fast on CPUs."""

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

FILE = "model.gguf"
INSTALL = "pip install llama-cpp-python==0.3.36"


@dataclass(frozen=True, config=STRICT)
class LlamaCppRunner:
    """Answers one prompt after the other, reading again only what differs from the prompt before.

    `context` tokens hold prompt and answer. Prompts are put together and split into tokens as by the transformers
    runner, with the tokenizer that lies beside the GGUF file, so that only the arithmetic differs. The package's
    installation compiles llama.cpp (several minutes).
    """

    context: Annotated[int, Field(ge=16)] = 2048
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    chat: Chat = "auto"
    takes: ClassVar[str | None] = "gguf"

    def open(self, source: LocalModel | None, threads: int | None) -> OneByOne:
        """The file mapped into memory and ready."""
        need("llama-cpp-python", "The llama_cpp runner", INSTALL, module="llama_cpp")
        if source is None or not (source.directory / FILE).is_file():
            raise BadInput(f"The llama_cpp runner needs a directory with {FILE}, as the method gguf makes it.")
        tokenizer = load_tokenizer(source.directory)
        import llama_cpp

        path = source.directory / FILE
        try:
            model = llama_cpp.Llama(
                str(path), n_ctx=self.context, n_threads=threads, n_threads_batch=threads, verbose=False
            )
        except (ValueError, RuntimeError) as wrong:
            raise BadInput(f"llama.cpp cannot load {path}: {wrong}") from wrong
        tokens = ChatTokens(tokenizer, self.chat, min(self.context, model.n_ctx()), self.max_prompt_tokens)
        ends = frozenset({tokenizer.eos_token_id, model.token_eos()})
        run_by = {"runner": "llama_cpp", "context": self.context, "chat": self.chat}
        run_by |= {"max_prompt_tokens": self.max_prompt_tokens, **versions("llama-cpp-python", "transformers")}
        return OneByOne(LlamaCppReader(model), tokens, ends, source, run_by, path.stat().st_size)


class LlamaCppReader:
    """Reads tokens with a loaded `llama_cpp.Llama`, through its batch, which gives the logits of every token."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, known: int, ids: list[int], last: int) -> "torch.Tensor":
        import llama_cpp
        import numpy as np
        import torch

        model = self._model
        model._ctx.kv_cache_seq_rm(-1, known, -1)
        rows = []
        for first in range(0, len(ids), model.n_batch):
            part = ids[first : first + model.n_batch]
            model._batch.set_batch(batch=part, n_past=known + first, logits_all=True)
            model._ctx.decode(model._batch)
            for place in range(max(0, len(ids) - last - first), len(part)):
                pointer = llama_cpp.llama_get_logits_ith(model._ctx.ctx, place)
                rows.append(np.ctypeslib.as_array(pointer, (model.n_vocab(),)).copy())
        return torch.from_numpy(np.stack(rows))
