"""Border inputs: found where an endpoint wavers, quiet while it does so as before, moved when the model is another."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift import detector
from evaluators.drift.border import DAILY, REFERENCE, candidates, counts, discover, distance
from evaluators.drift.reference import freeze
from evaluators.drift.sameness import Known, same_model


class Endpoint:
    """Answers most prompts always alike and one in ten sometimes otherwise, as its weights have it."""

    def __init__(self, weights: int, seed: int) -> None:
        self.weights, self.rng = weights, random.Random(seed)

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: str) -> str:
        own = random.Random(f"{self.weights}|{prompt}")
        share = own.uniform(0.2, 0.8) if random.Random(prompt).random() < 0.1 else 1.0
        first, second = own.sample(["yes", "no", "the", "a", "1"], 2)
        return first if self.rng.random() < share else second


def test_only_prompts_that_waver_are_kept() -> None:
    ask = Endpoint(1, 1)
    found = discover(ask, candidates(300), wanted=16)
    assert len(found) == 16
    assert all(random.Random(prompt).random() < 0.1 for prompt in found)


def test_an_endpoint_that_never_wavers_says_so() -> None:
    with pytest.raises(BadInput, match="the same way every time"):
        discover(lambda prompts: ["yes"] * len(prompts), candidates(20), wanted=5)


def days(weights: int, days: int, seed: int, prompts: list[str], base: dict[str, dict[str, int]]) -> list[list[float]]:
    ask = Endpoint(weights, seed)
    return [[distance(base[prompt], now) for prompt, now in counts(ask, prompts, DAILY).items()] for _ in range(days)]


def test_the_same_model_stays_quiet_for_months_and_another_is_found_within_days() -> None:
    ask = Endpoint(1, 2)
    prompts = discover(ask, candidates(600), wanted=30)
    base = {prompt: dict(found) for prompt, found in counts(ask, prompts, REFERENCE).items()}
    good = [x for day in days(1, 3, 3, prompts, base) for x in day]
    frozen = freeze(good, direction="rise", margin=0.05, confidence=0.995)
    watch = detector("esr", {**frozen.params(), "log_threshold": 11.2, "form": "item"})
    assert not any(watch.update(day).alarmed for day in days(1, 120, 4, prompts, base))
    assert [watch.update(day).alarmed for day in days(2, 5, 5, prompts, base)].index(True) <= 2


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=1),
       st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=1))  # fmt: skip
@settings(max_examples=60)
def test_the_distance_is_a_distance(one: dict[str, int], other: dict[str, int]) -> None:
    assert 0 <= distance(one, other) <= 1 + 1e-12
    assert distance(one, other) == pytest.approx(distance(other, one))
    assert distance(one, {key: 3 * n for key, n in one.items()}) == pytest.approx(0)


@pytest.mark.parametrize(
    ("known", "verdict", "by"),
    [
        (Known("a", "b", probes_differ=0.0), "changed", "fingerprint"),
        (Known("a", "a", probes_differ=0.5), "changed", "probes"),
        (Known("a", "a", probes_differ=0.0, border_moved=True), "changed", "border"),
        (Known(border_moved=False, answers_changed=True), "changed", "answers"),
        (Known("a", "a", probes_differ=0.0, border_moved=False), "same", "probes"),
        (Known("a", "a"), "same", "fingerprint"),
        (Known(), "unknown", "nothing"),
    ],
)
def test_the_model_is_checked_in_the_order_of_proof(known: Known, verdict: str, by: str) -> None:
    found = same_model(known)
    assert (found.verdict, found.by) == (verdict, by)
