"""The model as a GGUF file, which llama.cpp, Ollama and LM Studio run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import INSTALL, config_of
from variants.lookup import need
from variants.method import STRICT, Say, Stage

if TYPE_CHECKING:
    import torch

FILE = "model.gguf"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # GGUF's token types
Quant = Literal["q8_0", "q4_1", "q4_0", "q5_1", "f16", "bf16", "f32"]
TOKEN_MATRICES = ("token_embd.weight", "output.weight")


@dataclass(frozen=True, config=STRICT)
class GgufExport:
    """Matrices as `quant` (blocks of 32 weights with a scale, and in q4_1 an offset), norms as float32.

    `embedding` is the type of the token matrices (embedding and output), which suffer most and are often left wider:
    None is `quant` too. Weights that were widened from q4_1 or q8_0 go back to exactly what they were.

    For models of Llama's shape (Llama, SmolLM, Mistral) with a byte-level BPE tokenizer. `pretokenizer` is llama.cpp's
    name for how text is split before BPE, found out where it is one of the usual ones. Run it with the runner
    `llama_cpp`, or hand the file to anything that reads GGUF.
    """

    quant: Quant = "q8_0"
    embedding: Quant | None = None
    pretokenizer: str | None = None
    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "gguf"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("gguf",)

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        need("gguf", "Writing GGUF files", INSTALL)
        import gguf

        config = config_of(parent)
        check_shape(config, parent)
        writer = gguf.GGUFWriter(directory / FILE, "llama", use_temp_file=True)
        writer.add_file_type(gguf.LlamaFileType[file_type(self.quant)])
        write_shape(writer, config)
        write_tokenizer(writer, parent, config["vocab_size"], self.pretokenizer)
        say(f"writing matrices as {self.quant}")
        for name, tensor in tensors(parent, config):
            wanted = self.embedding or self.quant if name in TOKEN_MATRICES else self.quant
            if tensor.ndim != 2:
                wanted = "f32"
            elif tensor.shape[1] % 32 and wanted.startswith("q"):
                wanted = "f16"
            chosen = gguf.GGMLQuantizationType[wanted.upper()]
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), chosen), raw_dtype=chosen)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {}


def check_shape(config: Mapping[str, Any], parent: Path) -> None:
    """Returns when the model can be written as GGUF's "llama"; else raises BadInput with the reason."""
    rope = config.get("rope_parameters") or {}
    wrong = None
    if config.get("model_type") not in {"llama", "mistral"}:
        wrong = f"it is of the type {config.get('model_type')}"
    elif config.get("attention_bias") or config.get("mlp_bias"):
        wrong = "its matrices have biases"
    elif rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        wrong = "it scales its rotary positions"
    if wrong:
        raise BadInput(f"gguf writes models of Llama's plain shape; {parent} is not one: {wrong}.")


def write_shape(writer: Any, config: Mapping[str, Any]) -> None:
    """The sizes that llama.cpp needs to know."""
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def write_tokenizer(writer: Any, parent: Path, vocabulary: int, pretokenizer: str | None) -> None:
    """Tokens, merges and special tokens of the byte-level BPE tokenizer in `parent`, and its chat template."""
    from variants.loading import load_tokenizer

    try:
        told = json.loads((parent / "tokenizer.json").read_text())
        model, splits = told["model"], told.get("pre_tokenizer") or {}
        ranks, merges = model["vocab"], model["merges"]
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise BadInput(f"gguf needs a byte-level BPE tokenizer.json in {parent}: {wrong!r}") from wrong
    tokens = {number: (token, NORMAL) for token, number in ranks.items()}
    for added in told.get("added_tokens", []):
        tokens[added["id"]] = (added["content"], CONTROL if added.get("special") else USER_DEFINED)
    every = [tokens.get(number, (f"[PAD{number}]", UNUSED)) for number in range(vocabulary)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pretokenizer or known_pretokenizer(splits, parent))
    writer.add_token_list([token for token, _ in every])
    writer.add_token_types([kind for _, kind in every])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    loaded = load_tokenizer(parent)
    for add, number in (
        (writer.add_bos_token_id, loaded.bos_token_id),
        (writer.add_eos_token_id, loaded.eos_token_id),
        (writer.add_pad_token_id, loaded.pad_token_id),
        (writer.add_unk_token_id, loaded.unk_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(False)
    if loaded.chat_template:
        writer.add_chat_template(loaded.chat_template)


def known_pretokenizer(splits: Mapping[str, Any], parent: Path) -> str:
    """llama.cpp's name for the splitting rules of a tokenizer.json.

    >>> known_pretokenizer({"type": "ByteLevel"}, Path("x"))
    'gpt-2'
    """
    kinds = [step.get("type") for step in splits.get("pretokenizers", [splits])]
    known = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}
    if tuple(kinds) not in known:
        raise BadInput(f"The tokenizer in {parent} splits by {kinds}; say which of llama.cpp's pretokenizers that is.")
    return known[tuple(kinds)]


def tensors(parent: Path, config: Mapping[str, Any]) -> "Iterator[tuple[str, torch.Tensor]]":
    """Every weight in `parent` under its GGUF name, float32, one at a time."""
    import gguf
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    for file in sorted(parent.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in sorted(weights.keys()):
                own = names.get_name(name, try_suffixes=(".weight",))
                if own is None:
                    raise BadInput(f"{parent} holds a weight {name}, for which GGUF's llama has no place.")
                tensor = weights.get_tensor(name).float()
                if name.endswith("q_proj.weight"):
                    tensor = interleaved(tensor, heads)
                elif name.endswith("k_proj.weight"):
                    tensor = interleaved(tensor, config.get("num_key_value_heads") or heads)
                yield own, tensor


def interleaved(weight: "torch.Tensor", heads: int) -> "torch.Tensor":
    """Rows of a query or key matrix in the order of llama.cpp's rotary positions: neighbours turn together."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns).contiguous()


def file_type(quant: str) -> str:
    """GGUF's name for a file mostly of `quant`."""
    return "ALL_F32" if quant == "f32" else f"MOSTLY_{quant.upper()}"
