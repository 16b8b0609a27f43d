"""A stored reading can be computed once more; a rule can be tried on what is stored before anyone relies on it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import monitors, trials
from driftline.acts.monitor_files import apply, described, read, written
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Generation, Job, Monitor, Reading
from scheduler import judging
from scheduler.backtest import backtest, drafted
from scheduler.recompute import recompute
from scheduler.work import run_job

ITEMS, PER_BLOCK = 400, 20
Watched = Any


@pytest.fixture
def watching(watch_errors: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(judging, "CHECKPOINT", 5)
    stream = watch_errors()
    stream.healthy(ITEMS // PER_BLOCK)
    stream.check()
    return stream


def readings() -> list[Reading]:
    with reading() as session:
        return list(session.exec(select(Reading).order_by(col(Reading.id))))


def again(watching: Watched, row: Reading) -> dict[str, Any]:
    with reading() as session:
        return recompute(session, watching.world.project_id, row.id)


def drifted(watching: Watched) -> DriftEvent:
    while True:
        watching.block(errors=10)
        watching.check()
        with reading() as session:
            event = session.exec(select(DriftEvent)).first()
        if event is not None:
            return event


def test_every_reading_can_be_computed_again_to_the_same_statistic(watching: Watched) -> None:
    watching.healthy(12)
    watching.check()
    drifted(watching)
    found = [again(watching, row) for row in readings()]
    assert [one["agrees"] for one in found] == [True] * len(found)
    assert max(one["readings_replayed"] for one in found) <= 5
    assert found[-1]["alarmed"]
    assert found[-1]["recomputed"]["statistic"] == pytest.approx(readings()[-1].statistic, rel=1e-12)


def test_it_still_agrees_after_the_budget_was_split_anew(watching: Watched) -> None:
    watching.healthy(3)
    watching.check()
    with writing() as session:
        monitors.add(session, watching.world.project_id, "another", "latency", "test", weight=3.0)
    watching.healthy(3)
    watching.check()
    lines = [row.threshold for row in readings()]
    assert lines[0] < lines[-1]
    assert all(again(watching, row)["agrees"] for row in readings())


def test_records_that_are_gone_are_told(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    with writing() as session:
        last = session.exec(select(Generation).order_by(col(Generation.seq).desc())).first()
        session.delete(last)
    found = again(watching, readings()[-1])
    assert found["agrees"] is False
    assert "19 are found now" in found["because"]


def test_a_reading_of_a_version_that_kept_no_state_says_so(watching: Watched) -> None:
    watching.healthy(1)
    watching.check()
    with writing() as session:
        row = session.exec(select(Reading)).one()
        row.evidence = {key: value for key, value in row.evidence.items() if key != "state"}
        session.add(row)
    assert again(watching, readings()[0])["agrees"] is None


def test_a_reading_of_another_project_is_not_there(watching: Watched) -> None:
    watching.healthy(1)
    watching.check()
    with reading() as session, pytest.raises(NotFound):
        recompute(session, watching.world.project_id + 1, readings()[0].id)


def test_a_recompute_asked_for_on_the_page_is_a_job_with_the_answer(watching: Watched) -> None:
    event = drifted(watching)
    with writing() as session:
        job = trials.recompute_event(session, session.get_one(DriftEvent, event.id)).id
    watching.time.advance(1)
    assert run_job(job) == "done"
    with reading() as session:
        result = session.get_one(Job, job).result
    assert result is not None
    assert result["agrees"]


def tried(watching: Watched, **told: Any) -> dict[str, Any]:
    params = {"block_s": 60.0, "reference_items": ITEMS, "reference_s": 0.0, "margin": 0.02} | told.pop("params", {})
    with reading() as session:
        made = drafted(session, watching.world.project_id, {"signal": "errors", "params": params, **told})
        return backtest(session, made, until=now_us())


def test_a_backtest_fires_where_the_monitor_fired_and_says_what_it_promises(watching: Watched) -> None:
    watching.healthy(10)
    watching.check()
    event = drifted(watching)
    watching.time.advance(60)
    found = tried(watching, monitor="errors", signal="")
    assert [alarm["at"] for alarm in found["alarms"]] == [event.detected_at]
    assert 0 < found["false_alarm_bound"] <= 0.0101
    assert found["reference"]["n"] == ITEMS
    delays = {one["change"]: one["median_blocks"] for one in found["delays"]}
    assert delays[0.02] is None  # within the margin: nothing to be found
    assert delays[0.10] > delays[0.20] > 0


def test_a_wider_margin_fires_less_and_later(watching: Watched) -> None:
    for _ in range(60):
        watching.block(errors=3)
    watching.time.advance(60)
    narrow, wide = (tried(watching, params={"margin": margin}) for margin in (0.02, 0.3))
    assert len(narrow["alarms"]) > len(wide["alarms"]) == 0
    assert narrow["highest"] > wide["highest"]


def test_a_backtest_stores_nothing(watching: Watched, everything: Callable[[], str]) -> None:
    watching.healthy(3)
    before = everything()
    tried(watching)
    assert everything() == before


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"params": {"reference_items": 100_000}}, "does not fill a reference"),
        ({"signal": "border"}, "measured by jobs"),
        ({"signal": "mood"}, "no signal 'mood'"),
    ],
)
def test_a_backtest_that_cannot_be_made_says_why(watching: Watched, told: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        tried(watching, **told)


def test_a_latency_rule_is_tried_with_what_it_would_find(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors()
    for block in range(40):
        start = stream.time.now
        arrivals = [start + place * 3_000_000 for place in range(PER_BLOCK)]
        took = [300.0 + 10 * ((7 * place + block) % 20) for place in range(PER_BLOCK)]
        stream.world.traffic(stream.variant, arrivals, latency_ms=took)
        stream.time.advance(60)
    stream.time.advance(60)
    found = tried(stream, signal="latency", params={"margin": 0.1})
    assert found["alarms"] == []
    assert [one["change"] for one in found["delays"]] == [0.2, 0.3, 0.5, 1.0]
    assert found["delays"][-1]["median_blocks"] < 60


FILE = """
monitors:
  - {name: by hour, signal: errors, season: hour, reference_items: 5000}
  - {name: prime quality, signal: quality, source: exact, tags: {kind: prime}, margin: 0.02, weight: 2}
"""


def test_monitors_are_made_as_a_file_says_and_written_as_they_are(project: int) -> None:
    with writing() as session:
        assert apply(session, project, read(FILE), "ann") == [("by hour", "added"), ("prime quality", "added")]
        assert apply(session, project, read(FILE), "ann") == [("by hour", "unchanged"), ("prime quality", "unchanged")]
        assert read(written(described(session, project))) == [
            {"name": "by hour", "signal": "errors", "route": "default", "reference_items": 5000, "season": "hour"},
            {"name": "prime quality", "signal": "quality", "route": "default", "source": "exact", "weight": 2.0,
             "margin": 0.02, "tags": {"kind": "prime"}},
        ]  # fmt: skip
        changed = FILE.replace("weight: 2", "weight: 3").replace("reference_items: 5000", "paused: true")
        assert apply(session, project, read(changed), "ann") == [("by hour", "changed"), ("prime quality", "changed")]
        rows = {row.name: row for row in session.exec(select(Monitor))}
    assert (rows["by hour"].status, rows["by hour"].detector) == ("paused", "strata")
    assert rows["by hour"].params["reference_items"] == 2000
    assert rows["prime quality"].weight == 3.0


@pytest.mark.parametrize(
    ("text", "says", "kind"),
    [
        ("[", "no YAML", BadInput),
        ("- a", "one list named `monitors`", BadInput),
        ("monitors: [{name: a}]", "Monitor 1 of the file needs a name and a signal", BadInput),
        ("monitors: [{name: a, signal: errors}, {name: a, signal: errors}]", "twice", BadInput),
        ("monitors: [{name: a, signal: mood}]", "Monitor a: There is no signal", BadInput),
        ("monitors: [{name: a, signal: errors, colour: red}]", "no parameter 'colour'", BadInput),
        ("monitors: [{name: a, signal: errors, weight: many}]", "weight is a number", BadInput),
        ("monitors: [{name: a, signal: latency, split_by: x}]", "cannot be split", BadInput),
        ("monitors: [{name: a, signal: errors, season: hour, split_by: x}]", "not both", BadInput),
        ("monitors: [{name: a, signal: errors, tags: [x]}]", "tags are texts by name", BadInput),
        ("monitors: [{name: kept, signal: latency}]", "another name", Conflict),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_whole(project: int, text: str, says: str, kind: type[Exception]) -> None:
    with writing() as session:
        monitors.add(session, project, "kept", "errors", "test")
    with writing() as session, pytest.raises(kind, match=says):
        apply(session, project, read(text), "ann")


def test_another_weight_keeps_the_reference_and_another_margin_does_not(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    before = watching.monitor

    def tell(**told: Any) -> bool:
        with writing() as session:
            return monitors.change(session, session.get_one(Monitor, watching.monitor_id), "ann", **told)

    assert not tell(params={"margin": 0.02})
    assert tell(weight=5.0)
    assert (watching.monitor.status, watching.monitor.state) == ("watching", before.state)
    assert tell(params={"margin": 0.05})
    assert watching.monitor.status == "collecting"
