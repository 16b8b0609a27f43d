"""A real, tiny, untrained model: what it says is nonsense, what is recorded of it must be exactly that."""

from __future__ import annotations

import os
from typing import Any

import pytest
from local_collector import Collector

os.environ.setdefault("OMP_NUM_THREADS", "1")
transformers = pytest.importorskip("transformers", reason="needs the package transformers")
torch = pytest.importorskip("torch", reason="needs the package torch")
tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")

pytestmark = pytest.mark.slow  # importing torch takes longer than all other tests

TEXT = "the cat sat on a mat and looked at its owner user assistant :"
WORDS = ["<pad>", "<end>", "<unk>", *TEXT.split()]
CHAT = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}assistant :"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: n for n, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.eos_token, fast.padding_side, fast.chat_template = "<end>", "left", CHAT
    return fast


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    tiny = transformers.LlamaForCausalLM(config).eval()
    tiny.name_or_path = "tiny"
    return tiny


@pytest.fixture
def pipeline(model: Any, tokenizer: Any, sdk: Any) -> Any:
    return sdk.watch(transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu"))


def records(sdk: Any, collector: Collector) -> list[dict[str, Any]]:
    assert sdk.flush(5)
    return sorted(collector.records.values(), key=lambda record: record["id"])


def test_every_row_of_generate_is_a_generation(sdk: Any, model: Any, tokenizer: Any, collector: Collector) -> None:
    sdk.watch(model, tokenizer=tokenizer)
    asked = tokenizer(["the cat", "the cat sat on a mat"], return_tensors="pt", padding=True)
    answer = model.generate(
        input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], max_new_tokens=5, do_sample=False
    )
    first, second = records(sdk, collector)
    assert (first["input"], second["input"]) == ("the cat", "the cat sat on a mat")
    assert (first["input_tokens"], second["input_tokens"]) == (2, 6)
    assert first["output"] == tokenizer.decode(answer[0][6:], skip_special_tokens=True)
    assert 1 <= first["output_tokens"] <= 5
    assert first["model"] == "tiny"
    assert first["latency_ms"] > 0


def test_without_a_tokenizer_token_ids_are_recorded(sdk: Any, model: Any, collector: Collector) -> None:
    sdk.watch(model)
    model.generate(torch.tensor([[3, 4]]), max_new_tokens=2, min_new_tokens=2, do_sample=False)
    (record,) = records(sdk, collector)
    assert record["input"] == "[3, 4]"
    assert record["output"].startswith("[")
    assert record["output_tokens"] == 2


def test_a_streamer_tells_the_first_token(sdk: Any, model: Any, tokenizer: Any, collector: Collector) -> None:
    sdk.watch(model, tokenizer=tokenizer)
    heard: list[str] = []

    class Listener(transformers.TextStreamer):  # type: ignore[misc, name-defined]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            heard.append(text)

    streamer = Listener(tokenizer, skip_prompt=True)
    model.generate(torch.tensor([[3, 4]]), max_new_tokens=5, min_new_tokens=5, do_sample=False, streamer=streamer)
    (record,) = records(sdk, collector)
    assert 0 < record["ttft_ms"] < record["latency_ms"]
    assert heard


def test_a_pipeline_records_texts_and_tokens(sdk: Any, pipeline: Any, collector: Collector) -> None:
    assert isinstance(pipeline, transformers.TextGenerationPipeline)
    answer = pipeline("the cat sat", max_new_tokens=4, min_new_tokens=4, do_sample=False)
    (record,) = records(sdk, collector)
    assert record["input"] == "the cat sat"
    assert answer[0]["generated_text"] == "the cat sat" + record["output"]
    assert (record["input_tokens"], record["output_tokens"]) == (3, 4)


def test_a_pipeline_on_a_list_records_each(sdk: Any, pipeline: Any, collector: Collector) -> None:
    pipeline(["the cat", "a mat and its owner"], max_new_tokens=3, min_new_tokens=3, do_sample=False)
    first, second = records(sdk, collector)
    assert (first["input"], second["input"]) == ("the cat", "a mat and its owner")
    assert (first["input_tokens"], second["input_tokens"]) == (2, 5)


def test_a_pipeline_on_a_generator_records_each_as_its_model_sees_it(
    sdk: Any, pipeline: Any, collector: Collector
) -> None:
    asked = (text for text in ("the cat", "a mat and its owner"))
    answers = list(pipeline(asked, max_new_tokens=3, min_new_tokens=3, do_sample=False))
    first, second = records(sdk, collector)
    assert (first["input"], second["input"]) == ("the cat", "a mat and its owner")
    assert answers[1][0]["generated_text"] == f"a mat and its owner{second['output']}"


def test_a_chat_pipeline_records_the_answer_alone(sdk: Any, pipeline: Any, collector: Collector) -> None:
    chat = [{"role": "user", "content": "the cat"}]
    answer = pipeline(chat, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    (record,) = records(sdk, collector)
    assert record["input"] == chat
    assert record["output"] == answer[0]["generated_text"][-1]["content"]


def test_an_error_in_generate_is_recorded_and_raised(sdk: Any, model: Any, collector: Collector) -> None:
    sdk.watch(model)
    with pytest.raises(ValueError, match="max_new_tokens"):
        model.generate(torch.tensor([[3, 4]]), max_new_tokens=-1)
    (record,) = records(sdk, collector)
    assert record["status"] == "error"


def test_watching_twice_records_once(sdk: Any, pipeline: Any, collector: Collector) -> None:
    sdk.watch(sdk.watch(pipeline))("the cat", max_new_tokens=2)
    assert len(records(sdk, collector)) == 1


def test_inside_an_open_generation_the_rows_belong_to_it(sdk: Any, pipeline: Any, collector: Collector) -> None:
    with sdk.generation("outer"):
        pipeline("the cat", max_new_tokens=3, min_new_tokens=3, do_sample=False)
    (record,) = records(sdk, collector)
    assert record["input"] == "outer"
    assert record["output_tokens"] == 3
