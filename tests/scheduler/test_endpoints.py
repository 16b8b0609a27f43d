"""So many workers ask one endpoint as it may bear, whoever dies."""

from typing import Any

import pytest
from sqlmodel import select

from driftline.acts.replays import request_replay
from driftline.store.engine import reading, writing
from driftline.store.tables import Job, Replay
from scheduler.endpoints import LONGEST_S, Endpoint
from scheduler.work import claim_job, run_job


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch, store: object, forget_settings: Any) -> None:
    monkeypatch.setenv("DRIFTLINE_ENDPOINT_WORKERS", "2")
    forget_settings()


@pytest.mark.usefixtures("bounded")
def test_a_place_is_held_until_it_is_given_back_or_its_holder_must_be_gone(world: Any, ask: Any, time: Any) -> None:
    far = Endpoint.of({"runner_config": {"base_url": "http://far.example:8000/v1"}})
    same = Endpoint.of({"runner_config": {"base_url": "http://far.example:8000/other"}})
    assert far == same
    assert far is not None
    works = [claim_job(ask("variant.build", {"variant_id": n})) for n in range(4)]
    first, second, third, fourth = (work for work in works if work is not None)
    assert [far.enter(work) for work in (first, second, third)] == [True, True, False]
    assert far.enter(first)  # as after a crash: its own place, not a second one
    far.leave(second)
    assert [far.enter(work) for work in (third, fourth)] == [True, False]
    time.advance(LONGEST_S + 1)
    assert far.enter(fourth)


@pytest.mark.usefixtures("bounded")
def test_local_models_and_unbounded_endpoints_need_no_place(
    monkeypatch: pytest.MonkeyPatch, forget_settings: Any
) -> None:
    assert Endpoint.of({"runner": "transformers", "runner_config": {}}) is None
    monkeypatch.setenv("DRIFTLINE_ENDPOINT_WORKERS", "0")
    forget_settings()
    assert Endpoint.of({"runner_config": {"base_url": "http://far.example/v1"}}) is None


@pytest.mark.usefixtures("bounded")
def test_a_shard_without_a_place_waits_and_says_so(world: Any, ask: Any) -> None:
    config = {"base_url": "http://127.0.0.1:9/v1", "model": "far", "retries": 0}
    far = world.declare("far", {"runner": "openai", "runner_config": config, "chain": []})
    golden = world.golden()
    with writing() as session:
        replay = request_replay(session, world.project_id, far, golden, "ann", scorers=["exact"])
    endpoint = Endpoint.of(far.spec)
    assert endpoint is not None
    holders = [claim_job(ask("variant.build", {"variant_id": n})) for n in range(2)]
    assert all(endpoint.enter(work) for work in holders if work is not None)
    with reading() as session:
        job = session.exec(select(Job).where(Job.kind == "replay.run")).first()
    assert job is not None
    assert run_job(job.id) == "queued"
    with reading() as session:
        assert session.get_one(Job, job.id).note == "waiting for one of 2 places at 127.0.0.1:9"
        assert session.get_one(Replay, replay.id).state == "queued"
