"""Builds are measured and leak nothing, replays say what they took, benefits are watched, searches find better."""

import importlib.util
import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts.alerts import add_rule
from driftline.acts.frontier import standings
from driftline.acts.golden import canonical, import_items
from driftline.acts.replays import request_replay
from driftline.acts.searches import cancel_work, request_search
from driftline.acts.variants import declare, request_build
from driftline.errors import BadInput, Conflict
from driftline.protocols import Messages, Sampling
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, GoldenVersion, Job, Replay, Variant
from scheduler import measuring, models
from variants.runners.transformers_local import TransformersGenerate


@pytest.fixture(scope="session")
def tiny_chain(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    place = Path(__file__).parents[1] / "variants" / "conftest.py"
    found = importlib.util.spec_from_file_location("tiny_models", place)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    made = module.make_tiny(tmp_path_factory.mktemp("tiny"))
    return [{"method": "hf_dir", "config": {"path": str(made)}}]


def local(world: Any, name: str, chain: list[dict[str, Any]], parent: Variant | None = None) -> Variant:
    spec = {"runner": "transformers", "runner_config": {}, "chain": chain}
    with writing() as session:
        return declare(session, world.project_id, name, spec, "ann", parent)


def built(variant: Variant) -> None:
    with writing() as session:
        request_build(session, session.get_one(Variant, variant.id), "ann")


def now(variant: Variant) -> Variant:
    with reading() as session:
        return session.get_one(Variant, variant.id)


def replayed(world: Any, variant: Variant, golden: GoldenVersion, work_off: Any) -> Replay:
    with writing() as session:
        row = request_replay(
            session, world.project_id, session.get_one(Variant, variant.id), golden, "ann", scorers=["token_f1"]
        )
    work_off(["replay.run"])
    with reading() as session:
        return session.get_one(Replay, row.id)


def test_a_build_is_measured_against_the_parent_and_a_replay_says_what_it_took(
    world: Any, work_off: Any, tiny_chain: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = local(world, "base", tiny_chain)
    child = local(world, "pruned", [*tiny_chain, {"method": "magnitude_prune", "config": {"share": 0.2}}], parent)
    built(parent)
    built(child)
    with monkeypatch.context() as patch:
        patch.setattr(TransformersGenerate, "bytes_in_memory", 10**12)  # of the parent too: on disk until it is read
        assert [outcome for _, outcome in work_off(["variant.build"])] == ["done", "done"]

    measured = now(child).measured
    assert measured["kl_to_parent"] > 0
    assert 0 < measured["top1_agreement"] <= 1
    assert measured["perplexity"] > 1
    for name in ("decode_tokens_per_s", "ttft_ms", "joules_per_token", "peak_rss_bytes", "bytes_in_memory"):
        assert measured[name] > 0, name
    assert measured["zero_share"] == pytest.approx(0.2, abs=0.01)

    replay = replayed(world, child, world.golden([("Why?", "Because."), ("Who?", "Me.")]), work_off)
    assert replay.state == "done"
    assert replay.measured["answers"] == 2
    for name in ("latency_ms", "ttft_ms", "joules_per_answer", "peak_rss_bytes", "decode_tokens_per_s"):
        assert replay.measured[name] > 0, name
    assert replay.measured["kl_to_parent"] == measured["kl_to_parent"]  # the same fingerprint, the same content


def test_memory_of_a_replay_leaves_out_other_models_and_a_build_closes_them(
    world: Any, work_off: Any, tiny_chain: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_open", OrderedDict())
    base = local(world, "base", tiny_chain)
    alone = replayed(world, base, world.golden([("Why?", "Because.")]), work_off)
    large: Any = SimpleNamespace(bytes_in_memory=200_000_000, weights=bytearray(b"x") * 200_000_000)
    models._open["large"] = large

    beside = replayed(world, base, world.golden([("Who?", "Me.")]), work_off)
    built(base)
    work_off(["variant.build"])

    assert abs(beside.measured["peak_rss_bytes"] - alone.measured["peak_rss_bytes"]) < 100_000_000
    assert large not in models._open.values()


@pytest.fixture
def endpoint() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", "--latency-ms", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        server.kill()


def remote(world: Any, url: str) -> Variant:
    config = {"base_url": url, "model": "echo", "stream": False, "retries": 0}
    with writing() as session:
        spec = {"runner": "openai", "runner_config": config, "chain": []}
        return declare(session, world.project_id, "far", spec, "ann", None)


def test_an_endpoint_is_measured_at_the_build(world: Any, work_off: Any, endpoint: str) -> None:
    far = remote(world, endpoint)
    built(far)
    assert [outcome for _, outcome in work_off(["variant.build"])] == ["done"]
    measured = now(far).measured
    assert measured["errors"] == 0
    assert measured["answer_ms"] >= 5
    assert "peak_rss_bytes" not in measured  # of this process, not of the machine that answers


def test_an_endpoint_that_answers_nothing_is_declared_all_the_same_and_says_so(world: Any, work_off: Any) -> None:
    far = remote(world, "http://127.0.0.1:9/v1")
    built(far)
    assert [outcome for _, outcome in work_off(["variant.build"])] == ["done"]
    assert now(far).measured["errors"] == 1


def test_what_one_worker_built_another_machine_opens(
    world: Any, work_off: Any, tiny_chain: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "artifact_url", f"memory://{tmp_path.name}")
    child = local(world, "narrow", [*tiny_chain, {"method": "bf16", "config": {}}])
    built(child)
    assert [outcome for _, outcome in work_off(["variant.build"])] == ["done"]

    monkeypatch.setattr(models, "cache", lambda: tmp_path / "another")
    models._open.clear()
    monkeypatch.setattr("variants.methods.cast.Bf16.edit", None)  # it cannot be made there
    with reading() as session:
        opened = models.model_of(session.get_one(Variant, child.id))
    assert opened.fingerprint == now(child).fingerprint


def test_hits_of_a_cache_are_counted_in_the_replay(world: Any, work_off: Any, tmp_path: Path) -> None:
    warm = tmp_path / "warm.jsonl"
    warm.write_text(json.dumps({"prompt": "Question 1?", "answer": "answer 1", "at": 0}))
    spec = world.recorded("plain").spec
    chain = [{"method": "response_cache", "config": {"warm": str(warm)}}]
    cached = world.declare("cached", {**spec, "chain": chain})

    replay = replayed(world, cached, world.golden(), work_off)

    assert replay.measured["counts"]["cache_asked"] == 60
    assert replay.measured["cache_hit_rate"] == pytest.approx(1 / 60)
    assert replay.measured["cache_age_mean_s"] > 1e9


def test_a_training_set_that_repeats_golden_items_is_refused(
    world: Any, work_off: Any, tiny_chain: list[dict[str, Any]], tmp_path: Path
) -> None:
    world.golden([("Which river flows through the old town of Prague?", "The Vltava.")])
    data = tmp_path / "examples.jsonl"
    data.write_text(json.dumps({"prompt": "Which river flows through the old town of Prague?", "answer": "Vltava"}))
    learned = local(world, "learned", [*tiny_chain, {"method": "lora", "config": {"data": str(data), "steps": 1}}])
    built(learned)

    assert work_off(["variant.build"]) == [("variant.build", "failed")]
    assert "repeat items of a golden set" in str(now(learned).build_error)


def test_a_cancelled_build_stops_and_can_be_asked_for_again(
    world: Any, work_off: Any, tiny_chain: list[dict[str, Any]]
) -> None:
    variant = local(world, "base", tiny_chain)
    built(variant)
    with writing() as session:
        assert cancel_work(session, session.get_one(Variant, variant.id), "ann") == 1
    assert work_off(["variant.build"]) == []
    with writing() as session, pytest.raises(Conflict, match="Nothing is being built of base"):
        cancel_work(session, session.get_one(Variant, variant.id), "ann")
    built(variant)
    assert work_off(["variant.build"]) == [("variant.build", "done")]


def timed(world: Any, name: str, latency_ms: float, parent: Variant | None = None) -> Variant:
    answers = {f"Question {n}?": {"text": f"answer {n}", "latency_ms": latency_ms} for n in range(60)}
    spec = {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []}
    with writing() as session:
        return declare(session, world.project_id, name, spec, "ann", parent)


def slower(variant: Variant, latency_ms: float) -> None:
    with writing() as session:
        row = session.get_one(Variant, variant.id)
        before = row.spec["runner_config"]["answers"]
        answers = {key: {**value, "latency_ms": latency_ms} for key, value in before.items()}
        row.spec = {**row.spec, "runner_config": {"answers": answers}}
        row.content_hash = f"{row.content_hash[:50]}-{latency_ms}"  # as after an upgrade of its engine
        session.add(row)


@pytest.fixture
def latency_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded answers take microseconds of the processor, of which a busy machine makes any ratio."""
    monkeypatch.setattr(measuring, "SAVINGS", ("latency_ms",))


@pytest.mark.usefixtures("latency_alone")
def test_a_benefit_that_is_lost_twice_is_told_and_one_busy_moment_is_not(world: Any, work_off: Any) -> None:
    with writing() as session:
        add_rule(session, world.project_id, "benefits", "benefit_erosion", "ann", channels=[])
    golden = world.golden()
    parent = timed(world, "parent", 100.0)
    child = timed(world, "fast", 40.0, parent)
    replayed(world, parent, golden, work_off)

    replayed(world, child, golden, work_off)
    assert now(child).measured["justified"]["latency_ms"] == pytest.approx(2.5)
    slower(child, 70.0)  # 1.43 times as fast: less than half of the saving is left
    assert replayed(world, child, golden, work_off).measured["eroded"] == ["latency_ms"]
    with reading() as session:
        assert session.exec(select(Alert)).all() == []
    slower(child, 71.0)
    replayed(world, child, golden, work_off)

    with reading() as session:
        (alert,) = session.exec(select(Alert)).all()
    assert alert.title == "fast no longer saves what justified it"
    assert alert.labels == {"on": "benefit_erosion", "variant": "fast", "baseline": "parent"}
    assert alert.body["gains"]["latency_ms"] == pytest.approx(100 / 71)
    for latency, state in ((42.0, "firing"), (41.0, "resolved")):
        slower(child, latency)
        replayed(world, child, golden, work_off)
        with reading() as session:
            (alert,) = session.exec(select(Alert)).all()
        assert alert.state == state
    assert "saves what justified it" in alert.certificate["says"]


@pytest.mark.usefixtures("latency_alone")
def test_a_benefit_that_holds_is_not_told(world: Any, work_off: Any) -> None:
    with writing() as session:
        add_rule(session, world.project_id, "benefits", "benefit_erosion", "ann", channels=[])
    golden, parent = world.golden(), timed(world, "parent", 100.0)
    child = timed(world, "fast", 40.0, parent)
    replayed(world, parent, golden, work_off)
    for latency in (40.0, 55.0, 56.0):
        slower(child, latency)
        assert not replayed(world, child, golden, work_off).measured.get("eroded")
    with reading() as session:
        assert session.exec(select(Alert)).all() == []


def test_the_frontier_leaves_out_who_is_beaten_in_everything(world: Any, work_off: Any) -> None:
    golden = world.golden()
    slow = timed(world, "slow", 100.0)
    fast = timed(world, "fast", 40.0)
    wrong = world.recorded("wrong", right=20)
    for variant in (slow, fast, wrong):
        replayed(world, variant, golden, work_off)

    with reading() as session:
        found = {one.variant: one for one in standings(session, world.project_id)}

    assert found["fast"].figures["quality"] == found["slow"].figures["quality"] > found["wrong"].figures["quality"]
    assert found["fast"].is_best
    # joules are measured, so the slow one may win there; in latency and quality it does not
    assert found["fast"].figures["latency_ms"] < found["slow"].figures["latency_ms"]


def obedient(messages: Messages, sampling: Sampling) -> str:
    """Answers rightly when told to be exact, and shown at least two examples."""
    exact = any(m["role"] == "system" and "exact" in m["content"] for m in messages)
    shots = sum(m["role"] == "assistant" for m in messages)
    number = messages[-1]["content"].removeprefix("Question ").removesuffix("?")
    return f"answer {number}" if exact and shots >= 2 else "I do not know."


@pytest.fixture
def training(world: Any) -> GoldenVersion:
    items = [
        canonical({"input": f"Question {n}?", "expected": f"answer {n}", "split": "train" if n < 24 else "test"})
        for n in range(40)
    ]
    with writing() as session:
        return import_items(session, world.project_id, "qa", items, "test", source="test")[0]


@pytest.fixture
def callable_variant(world: Any, monkeypatch: pytest.MonkeyPatch) -> Variant:
    import sys
    from types import ModuleType

    module = ModuleType("obedient_model")
    module.answer = obedient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "obedient_model", module)
    spec = {"runner": "python", "runner_config": {"function": "obedient_model:answer"}, "chain": []}
    variant: Variant = world.declare("obedient", spec)
    return variant


def searched(variant: Variant, golden: GoldenVersion, work_off: Any, space: dict[str, Any], **options: Any) -> Job:
    with writing() as session:
        job = request_search(
            session, session.get_one(Variant, variant.id), golden, space, "ann", **({"items": 12} | options)
        )
    work_off(["variant.search"])
    with reading() as session:
        return session.get_one(Job, job.id)


@pytest.mark.parametrize("sampler", ["random", "tpe", "hyperband"])
def test_a_search_finds_the_prompt_that_works_and_declares_it(
    world: Any, work_off: Any, training: GoldenVersion, callable_variant: Variant, sampler: str
) -> None:
    ended = searched(
        callable_variant, training, work_off, {"steps": [{"prompt": {}}]}, sampler=sampler, trials=24,
        objectives=["quality"],
    )  # fmt: skip

    assert ended.state == "done", ended.error
    assert ended.result is not None
    best = [one for one in ended.result["trials"] if one["trial"] in ended.result["best"]]
    assert best[0]["quality"] == 1.0
    assert {one["state"] for one in ended.result["trials"]} <= {"done", "pruned"}
    with reading() as session:
        child = session.exec(select(Variant).where(Variant.name == best[0]["variant"])).one()
    assert child.parent_id == callable_variant.id
    template = child.spec["chain"][-1]["config"]
    assert "exact" in template["system"]
    shown = {f"Question {n}?" for n in range(24)}
    assert {question for question, _ in template["shots"]} <= shown  # nothing of the items that judge variants


def test_several_objectives_give_a_front_of_variants(
    world: Any, work_off: Any, training: GoldenVersion, tiny_chain: list[dict[str, Any]]
) -> None:
    base = local(world, "base", tiny_chain)
    space = {"steps": [{"method": "layer_drop", "config": {"count": {"low": 1, "high": 3}}, "optional": True}]}

    ended = searched(base, training, work_off, space, trials=6, objectives=["quality", "bytes_stored"], items=4)

    assert ended.state == "done", ended.error
    assert ended.result is not None
    sizes = {one["bytes_stored"] for one in ended.result["trials"]}
    assert len(sizes) > 1
    assert min(sizes) in {one["bytes_stored"] for one in ended.result["trials"] if one["trial"] in ended.result["best"]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sampler": "grid"}, "no sampler 'grid'. Known: random, tpe, hyperband"),
        ({"objectives": ["beauty"]}, "Objectives are some of quality"),
        ({"sampler": "hyperband"}, "give quality alone"),
        ({"trials": 0}, "at least one trial"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    world: Any, work_off: Any, training: GoldenVersion, callable_variant: Variant, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        searched(callable_variant, training, work_off, {"steps": [{"prompt": {}}]}, **options)


def test_a_golden_set_without_a_training_split_is_not_searched_on(
    world: Any, work_off: Any, callable_variant: Variant
) -> None:
    ended = searched(callable_variant, world.golden(), work_off, {"steps": [{"prompt": {}}]})

    assert ended.state == "failed"
    assert "training split" in str(ended.error)
    with reading() as session:
        assert session.exec(select(Variant).where(col(Variant.name).contains("search"))).all() == []
