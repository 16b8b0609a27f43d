"""A function of one's own answers like any other variant."""

import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from driftline.errors import BadInput
from driftline.protocols import Completion, Generate, Messages, Sampling
from variants.open import open_variant
from variants.recipe import spec


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("answers_of_mine")
    module.upper = lambda messages, sampling: messages[-1]["content"].upper()
    module.slow = lambda messages, sampling: time.sleep(0.1) or "done"
    eight = threading.Barrier(8)
    module.together = lambda messages, sampling: ("all eight", eight.wait(timeout=30))[0]
    module.whole = lambda messages, sampling: Completion("x", 7.0, output_tokens=1)
    module.mapping = lambda messages, sampling: {"text": "x", "output_tokens": sampling.max_tokens}
    module.unknown = lambda messages, sampling: {"words": "x"}
    module.nothing = lambda messages, sampling: None
    module.broken = lambda messages, sampling: 1 / 0
    module.number = 3
    monkeypatch.setitem(sys.modules, "answers_of_mine", module)
    return module


def opened(name: str, **config: Any) -> Generate:
    return open_variant(spec("python", function=f"answers_of_mine:{name}", **config), Path("unused"))


def ask(*texts: str) -> list[Messages]:
    return [({"role": "user", "content": text},) for text in texts]


def test_a_function_answers_each_prompt_in_order() -> None:
    assert [a.text for a in opened("upper").generate(ask("a", "b"), Sampling())] == ["A", "B"]
    assert [a.text for a in opened("upper", concurrency=4).generate(ask(*"abcdef"), Sampling())] == list("ABCDEF")


def test_its_latency_is_measured_unless_it_says_one() -> None:
    assert opened("slow").generate(ask("a"), Sampling())[0].latency_ms >= 100
    assert opened("whole").generate(ask("a"), Sampling())[0].latency_ms == 7.0


def test_it_may_tell_more_than_the_text() -> None:
    [told] = opened("mapping").generate(ask("a"), Sampling(max_tokens=5))

    assert (told.text, told.output_tokens, told.error) == ("x", 5, None)


@pytest.mark.parametrize(
    ("name", "says"), [("broken", "ZeroDivisionError"), ("unknown", "returned no answer"), ("nothing", "no answer")]
)
def test_what_goes_wrong_is_that_prompts_error(name: str, says: str) -> None:
    [failed] = opened(name).generate(ask("a"), Sampling())

    assert failed.text == ""
    assert says in (failed.error or "")


def test_prompts_run_at_once_up_to_the_concurrency() -> None:
    answers = opened("together", concurrency=8).generate(ask(*"abcdefgh"), Sampling())

    assert [(answer.text, answer.error) for answer in answers] == [("all eight", None)] * 8


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("answers_of_mine:absent", "cannot be imported"),
        ("no.such.module:f", "cannot be imported"),
        ("answers_of_mine:number", "cannot be called"),
        ("no colon", "should match pattern"),
    ],
)
def test_a_function_that_is_not_there_is_named(function: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_variant(spec("python", function=function), Path("unused"))


def test_a_raised_version_is_another_fingerprint() -> None:
    assert opened("upper").fingerprint != opened("upper", version="2").fingerprint
