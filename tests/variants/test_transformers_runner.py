"""A local model answers in batches exactly as it would alone, and weighs given answers."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from driftline.protocols import LogProbs, Messages, Sampling
from variants.open import open_variant
from variants.recipe import Spec, spec
from variants.runners import prefix
from variants.runners.decoding import draw, perplexity, weigh
from variants.runners.forward import Forward
from variants.runners.transformers_local import TransformersGenerate


def ask(text: str) -> Messages:
    return ({"role": "user", "content": text},)


PROMPTS = [ask(text) for text in ("Why?", "What is water made of, and where does it go?", "Bread.", "A", "Rain " * 9)]


@pytest.fixture(scope="module")
def opened(tiny_spec: Spec, shelf_dir: Path) -> TransformersGenerate:
    answering = open_variant(tiny_spec, shelf_dir, threads=1)
    assert isinstance(answering, TransformersGenerate)
    return answering


def alone(opened: TransformersGenerate, prompt: Messages, sampling: Sampling) -> str:
    return opened.generate([prompt], sampling)[0].text


def test_greedy_answers_are_those_of_transformers_generate(opened: TransformersGenerate) -> None:
    for prompt in PROMPTS:
        ids = torch.tensor([opened.tokens.prompt_ids(prompt)])
        theirs = opened.model.generate(ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))

        ours = opened.generate([prompt], Sampling(max_tokens=12))[0]

        assert ours.text == opened.tokens.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_batch_answers_as_each_prompt_alone(opened: TransformersGenerate) -> None:
    sampling = Sampling(max_tokens=12)

    together = opened.generate(PROMPTS, sampling)

    assert [answer.text for answer in together] == [alone(opened, prompt, sampling) for prompt in PROMPTS]


@pytest.mark.parametrize("shared", [False, True])
def test_long_prompts_are_read_in_passes_of_like_length_and_change_no_answer(
    opened: TransformersGenerate, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    told = ({"role": "system", "content": "Answer in one word, please."},) if shared else ()
    asked: list[Messages] = [(*told, *ask("Rain and bread. " * times)) for times in (5, 1, 9, 2, 7, 1)]
    sampling = Sampling(max_tokens=10)
    apart = [alone(opened, prompt, sampling) for prompt in asked]
    expected = [opened.log_probs([(prompt, "water")])[0] for prompt in asked]

    monkeypatch.setattr(prefix, "TOKENS_PER_PASS", 150)
    lengths = sorted(len(opened.tokens.prompt_ids(prompt)) for prompt in asked)
    assert 1 < len(prefix.passes_of(lengths)) < len(asked)
    assert [answer.text for answer in opened.generate(asked, sampling)] == apart
    for one, other in zip(opened.log_probs([(prompt, "water") for prompt in asked]), expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=64).map(sorted))
def test_passes_take_every_prompt_once_and_are_bounded(lengths: list[int]) -> None:
    slices = prefix.passes_of(lengths)
    assert [place for part in slices for place in range(len(lengths))[part]] == list(range(len(lengths)))
    for part in slices:
        rows = lengths[part]
        assert len(rows) == 1 or len(rows) * rows[-1] <= prefix.TOKENS_PER_PASS


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_a_beginning_that_all_prompts_share_is_read_once_and_changes_no_answer(
    opened: TransformersGenerate, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    told = {"role": "system", "content": "Water, bread and rain. Answer in one word and be friendly about it."}
    asked = [(told, *prompt) for prompt in PROMPTS[:4]]
    sampling = Sampling(max_tokens=10, temperature=temperature)
    widths: list[tuple[int, ...]] = []
    forward = opened.model.forward

    def listen(*positional: object, **named: torch.Tensor) -> object:
        widths.append(tuple(named["input_ids"].shape))
        return forward(*positional, **named)

    apart = [alone(opened, prompt, sampling) for prompt in asked]
    with monkeypatch.context() as patched:
        listen.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
        patched.setattr(opened.model, "forward", listen)
        together = [answer.text for answer in opened.generate(asked, sampling)]

    shared, rest = widths[0][1], widths[1][1]
    assert together == apart
    assert widths[0][0] == 1
    assert shared > 20
    assert shared + rest == max(len(opened.tokens.prompt_ids(prompt)) for prompt in asked)


def test_a_model_with_a_sliding_window_reads_every_prompt_whole() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    windowed = MistralForCausalLM(MistralConfig(vocab_size=50, num_key_value_heads=2, sliding_window=4, **sizes))
    whole = MistralForCausalLM(MistralConfig(vocab_size=50, num_key_value_heads=2, sliding_window=None, **sizes))

    assert not Forward(windowed).can_repeat_cache
    assert Forward(whole).can_repeat_cache


def test_a_replay_resumed_at_a_full_batch_gives_the_same_answers(opened: TransformersGenerate) -> None:
    sampling = Sampling(max_tokens=8)

    whole = opened.generate(PROMPTS, sampling)
    resumed = [*opened.generate(PROMPTS[:4], sampling), *opened.generate(PROMPTS[4:], sampling)]

    assert [answer.text for answer in whole] == [answer.text for answer in resumed]
    assert [answer.mean_logprob for answer in whole] == [answer.mean_logprob for answer in resumed]


def test_sampling_depends_on_seed_and_prompt_and_not_on_neighbours(opened: TransformersGenerate) -> None:
    hot = Sampling(max_tokens=12, temperature=1.5, seed=3)

    together = [answer.text for answer in opened.generate(PROMPTS, hot)]

    assert together == [alone(opened, prompt, hot) for prompt in PROMPTS]
    assert together != [answer.text for answer in opened.generate(PROMPTS, Sampling(12, 1.5, seed=4))]


def test_a_tiny_nucleus_is_greedy(opened: TransformersGenerate) -> None:
    greedy = [answer.text for answer in opened.generate(PROMPTS, Sampling(max_tokens=8))]

    narrow = opened.generate(PROMPTS, Sampling(max_tokens=8, temperature=1.0, top_p=1e-6, seed=5))

    assert [answer.text for answer in narrow] == greedy


def test_tokens_are_sampled_as_often_as_their_probability_says(opened: TransformersGenerate) -> None:
    ids = opened.tokens.prompt_ids(PROMPTS[0])
    with torch.inference_mode():
        share = opened.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    likeliest = int(share.argmax())
    draws = 400

    hits = sum(
        draw(opened.model, [ids], Sampling(1, 1.0, seed=seed), frozenset(), opened.tokens, 0.0)[0].ids[0] == likeliest
        for seed in range(draws)
    )

    expected, spread = draws * float(share.max()), math.sqrt(draws * float(share.max() * (1 - share.max())))
    assert abs(hits - expected) < 4 * spread


def test_times_tokens_and_mean_logprob_describe_the_answer(opened: TransformersGenerate) -> None:
    answers = opened.generate(PROMPTS, Sampling(max_tokens=9))

    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer.input_tokens == len(opened.tokens.prompt_ids(prompt))
        assert 1 <= (answer.output_tokens or 0) <= 9
        assert 0 < (answer.ttft_ms or 0) <= answer.latency_ms
        assert (answer.mean_logprob or 0) < 0
        assert answer.finish_reason == ("length" if answer.output_tokens == 9 else "stop")


def test_the_mean_logprob_is_what_weighing_the_drawn_tokens_gives(opened: TransformersGenerate) -> None:
    ids = opened.tokens.prompt_ids(PROMPTS[1])
    [drawn] = draw(opened.model, [ids], Sampling(10), frozenset(), opened.tokens, 0.0)

    [weighed] = weigh(opened.model, [(ids, drawn.ids)])

    assert drawn.mean_logprob == pytest.approx(sum(weighed.logprobs) / 10, abs=1e-4)
    assert all(weighed.top1)  # greedy: each was the first choice


def test_an_answer_ends_before_the_stop_text(opened: TransformersGenerate) -> None:
    whole = alone(opened, PROMPTS[1], Sampling(max_tokens=20))
    mark = whole[5:7]

    [answer] = opened.generate([PROMPTS[1]], Sampling(max_tokens=20, stop=("never drawn", mark)))

    assert answer.text == whole[: whole.index(mark)]
    assert answer.finish_reason == "stop"


def test_a_prompt_beyond_the_limit_loses_its_beginning_and_says_so(tiny: Path, shelf_dir: Path) -> None:
    short = spec("transformers", ("hf_dir", {"path": str(tiny)}), max_prompt_tokens=8)
    opened = open_variant(short, shelf_dir)

    cut, whole = opened.generate([ask("Water falls. " * 50), ask("")], Sampling(max_tokens=2))

    assert cut.input_tokens == 8
    assert (cut.finish_reason or "").endswith(", prompt truncated")
    assert cut.error is None
    assert whole.error is None


@pytest.mark.parametrize(
    "bad",
    [
        (),
        ({"role": "user"},),
        ({"content": "x"},),
        ({"role": "user", "content": None},),
        ("text",),
        ({"role": "user", "content": "half a pair: \ud83d"},),
    ],
    ids=["no message", "no content", "no role", "content is not text", "no mapping", "broken unicode"],
)
def test_one_bad_prompt_does_not_fail_its_batch(opened: TransformersGenerate, bad: Messages) -> None:
    first, broken, last = opened.generate([PROMPTS[0], bad, PROMPTS[1]], Sampling(max_tokens=4))

    assert first.error is None
    assert last.error is None
    assert broken.text == ""
    assert broken.error


def test_a_prompt_that_a_template_refuses_does_not_fail_its_batch(tiny_spec: Spec, shelf_dir: Path) -> None:
    brief = open_variant(tiny_spec.then("prompt_template", system="Be brief."), shelf_dir)

    first, empty, headless, last = brief.generate(
        [PROMPTS[0], (), ({"role": "user"},), PROMPTS[1]], Sampling(max_tokens=4)
    )

    assert first.error is last.error is None
    assert "at least one message" in (empty.error or "")
    assert "does not fit the template" in (headless.error or "")


def test_no_room_for_an_answer_is_an_error_per_prompt(opened: TransformersGenerate) -> None:
    for tokens in (0, 256, 10_000):
        [answer] = opened.generate([PROMPTS[0]], Sampling(max_tokens=tokens))
        assert answer.error is not None
        assert "max_tokens" in answer.error


def test_no_prompts_give_no_answers(opened: TransformersGenerate) -> None:
    assert opened.generate([], Sampling()) == []
    assert opened.log_probs([]) == []


texts = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(texts.map(ask), texts), min_size=1, max_size=6),
    system=st.sampled_from(["", "You are a helpful assistant who answers briefly."]),
)
def test_answers_weigh_the_same_in_a_batch_and_alone(
    opened: TransformersGenerate, pairs: list[tuple[Messages, str]], system: str
) -> None:
    pairs = [(({"role": "system", "content": system}, *prompt), answer) for prompt, answer in pairs]

    together = opened.log_probs(pairs)

    for pair, weighed in zip(pairs, together, strict=True):
        [single] = opened.log_probs([pair])
        assert weighed.logprobs == pytest.approx(single.logprobs, abs=1e-4)
        assert len(weighed.logprobs) == len(weighed.top1)


def test_what_was_answered_is_weighed_without_reading_it_again_and_to_the_same_numbers(
    opened: TransformersGenerate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list(zip(PROMPTS, ["water", "bread and rain", ""], strict=False))
    prompts, fed = [prompt for prompt, _ in pairs], []
    forward = Forward.__call__

    def watched(self: Forward, ids: torch.Tensor, *more: Any, **named: Any) -> Any:
        fed.append(ids.shape[1])
        return forward(self, ids, *more, **named)

    monkeypatch.setattr(Forward, "__call__", watched)
    opened.generate(PROMPTS[-1:], Sampling(max_tokens=1))  # nothing of the batch is known
    afresh = opened.log_probs(pairs)
    opened.generate(PROMPTS[-1:], Sampling(max_tokens=1))
    said = opened.generate(prompts, Sampling(max_tokens=6))
    fed.clear()
    assert opened.log_probs(pairs) == afresh
    assert fed == [max(len(one.logprobs) for one in afresh) - 1]
    fed.clear()
    assert opened.generate(prompts, Sampling(max_tokens=6))[0].text == said[0].text  # the kept batch was not changed
    assert max(fed) > 1  # who answers again reads again: its times are told

    monkeypatch.setattr(prefix, "KEPT_BYTES", 0)
    assert opened.log_probs(pairs) == afresh


def test_weighing_agrees_with_the_model_run_by_hand(opened: TransformersGenerate) -> None:
    prompt, answer = opened.tokens.prompt_ids(PROMPTS[1]), [5, 9, 200, 17]
    with torch.inference_mode():
        logits = opened.model(torch.tensor([prompt + answer])).logits[0].float().log_softmax(-1)
    by_hand = [float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]

    weighed = weigh(opened.model, [(prompt, answer), (prompt[:3], [1]), (prompt, [])])

    assert weighed[0].logprobs == pytest.approx(by_hand, abs=1e-4)
    assert len(weighed[1].logprobs) == 1
    assert weighed[2].logprobs == ()
    assert perplexity(weighed[0].logprobs) == pytest.approx(math.exp(-sum(by_hand) / 4), rel=1e-3)


def test_an_answer_longer_than_the_context_is_refused(opened: TransformersGenerate) -> None:
    with pytest.raises(BadInput, match="does not fit the context of 256"):
        opened.log_probs([(PROMPTS[0], "water " * 400)])


def test_a_long_prompt_before_an_answer_keeps_its_end(opened: TransformersGenerate) -> None:
    [weighed] = opened.log_probs([(ask("Bread is good. " * 100), "water")])

    assert weighed.logprobs
    assert all(math.isfinite(logprob) for logprob in weighed.logprobs)


def test_a_model_without_a_chat_template_is_asked_plainly(tmp_path: Path, make_tiny: Callable[..., Path]) -> None:
    plain = make_tiny(tmp_path / "plain", template=None)
    opened = open_variant(spec("transformers", ("hf_dir", {"path": str(plain)})), tmp_path / "shelf")

    assert isinstance(opened, TransformersGenerate)
    assert opened.tokens.tokenizer.decode(opened.tokens.prompt_ids(ask("Why?"))) == "Why?"
    with pytest.raises(BadInput, match="no chat template"):
        open_variant(spec("transformers", ("hf_dir", {"path": str(plain)}), chat="template"), tmp_path / "shelf")


def test_a_prompt_template_weighs_answers_too(tiny_spec: Spec, shelf_dir: Path) -> None:
    brief = open_variant(tiny_spec.then("prompt_template", system="Be brief."), shelf_dir)
    plain = open_variant(tiny_spec, shelf_dir)
    said = ({"role": "system", "content": "Be brief."}, *PROMPTS[0])

    assert isinstance(brief, LogProbs)
    assert isinstance(plain, LogProbs)
    assert brief.log_probs([(PROMPTS[0], "water")]) == plain.log_probs([(said, "water")])
    assert brief.generate([PROMPTS[0]], Sampling(4))[0].text == plain.generate([said], Sampling(4))[0].text
