"""The store is kept tidy by the clock itself: what is too old goes, what is past is folded, a user can be erased."""

from typing import Any

import pytest
from sqlmodel import col, func, select

from driftline.acts import projects
from driftline.errors import BadInput
from driftline.moment import DAY, HOUR, MINUTE, now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import AuditEntry, Generation, Job, MetricPoint, Project, Rollup, Variant
from scheduler.clock import Clock
from scheduler.tidying import ask_for_tidying
from scheduler.work import run_job


def add_calls(project_id: int, *ages_days: float, user: str | None = None) -> None:
    with writing() as session:
        variant = session.exec(select(Variant)).first()
        if variant is None:
            variant = Variant(project_id=project_id, name="v", content_hash="h", spec={}, state="x", created_at=0)
            session.add(variant)
            session.flush()
        for place, age in enumerate(ages_days):
            at = now_us() - int(age * DAY)
            name = f"{user}-{age}-{place}"
            session.add(
                Generation(
                    project_id=project_id, id=name, started_at=at, received_at=at, variant_id=variant.id,
                    sample_key=place, user_id=user,
                )
            )  # fmt: skip
            session.add(Rollup(project_id=project_id, variant_id=variant.id, minute=at - at % MINUTE, n=1))


def calls() -> int:
    with reading() as session:
        return session.exec(select(func.count()).select_from(Generation)).one()


def asked() -> list[Job]:
    with reading() as session:
        return list(session.exec(select(Job).where(col(Job.kind).in_(["project.tidy", "user.erase"]))))


def test_the_clock_asks_once_an_hour_and_the_job_leaves_no_trace(project_on_each: int, time: Any) -> None:
    Clock().tick()
    told = asked()
    assert [job.kind for job in told] == ["project.tidy"]
    assert run_job(told[0].id) == "done"
    assert asked() == []
    seen: dict[int, int] = {}
    for seconds, expected in ((0, 1), (3599, 1), (1, 2)):
        time.advance(seconds)
        with writing() as session:
            ask_for_tidying(session, seen)
        assert sum(1 for job in asked() if run_job(job.id) == "done") == (1 if expected != 1 or seconds == 0 else 0)


def test_calls_older_than_the_project_keeps_go_in_turns(
    project_on_each: int, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.tidying.AT_ONCE", 500)
    add_calls(project_on_each, *[40] * 1100, 29, 1)
    with writing() as session:
        projects.configure(session, session.get_one(Project, project_on_each), "test", keep_days=30)
        ask_for_tidying(session, {})
    job = asked()[0]
    assert [run_job(job.id) for _ in range(3)] == ["queued", "queued", "done"]
    assert calls() == 2


def test_a_project_that_keeps_for_ever_forgets_nothing_but_folds_what_is_past(project_on_each: int, time: Any) -> None:
    add_calls(project_on_each, *[0.5] * 20, *[0.001] * 5)
    with writing() as session:
        ask_for_tidying(session, {})
    assert run_job(asked()[0].id) == "done"
    with reading() as session:
        rows = session.exec(select(Rollup.n, Rollup.minute)).all()
    assert sorted(n for n, _ in rows) == [1, 1, 1, 1, 1, 20]
    assert sum(minute < now_us() - HOUR for _, minute in rows) == 1
    assert calls() == 25


def test_minutes_of_last_week_become_hours_with_the_same_sums(project_on_each: int, time: Any) -> None:
    time.now -= time.now % DAY
    add_calls(
        project_on_each, *(7 - minute / 1440 for minute in range(150)), *(1 - minute / 1440 for minute in range(90))
    )
    with writing() as session:
        ask_for_tidying(session, {})
    assert run_job(asked()[0].id) == "done"
    with reading() as session:
        rows = session.exec(select(Rollup.n, Rollup.minute)).all()
    old = sorted((minute, n) for n, minute in rows if minute < now_us() - 3 * DAY)
    first = now_us() - 7 * DAY
    assert old == [(first, 60), (first + HOUR, 60), (first + 2 * HOUR, 30)]
    assert sum(n for n, _ in rows) == 240
    assert len(rows) == 3 + 90


def test_minutes_of_the_day_before_yesterday_become_quarters_of_an_hour(project_on_each: int, time: Any) -> None:
    time.now -= time.now % DAY
    ages = [start - minute / 1440 for start in (2, 25 / 24) for minute in range(40)]
    add_calls(project_on_each, *ages)
    with writing() as session:
        ask_for_tidying(session, {})
    assert run_job(asked()[0].id) == "done"
    with reading() as session:
        rows = sorted(session.exec(select(Rollup.minute, Rollup.n)).all())
    first = now_us() - 2 * DAY
    assert rows[:3] == [(first, 15), (first + 15 * MINUTE, 15), (first + 30 * MINUTE, 10)]
    assert [n for _, n in rows[3:]] == [1] * 40  # the last day is shown in finer steps


def test_points_of_metrics_go_with_the_calls(project: int, time: Any) -> None:
    with writing() as session:
        for age in (1, 31):
            at = now_us() - age * DAY
            point = MetricPoint(project_id=project, name="gen_ai.x", stream=str(age), start_at=at, at=at)
            session.add(point)
        projects.configure(session, session.get_one(Project, project), "test", keep_days=30)
        ask_for_tidying(session, {})
    run_job(asked()[0].id)
    with reading() as session:
        assert session.exec(select(MetricPoint.stream)).all() == ["1"]


def test_erasing_a_user_leaves_their_name_nowhere(project_on_each: int) -> None:
    add_calls(project_on_each, 1, 2, user="ana")
    add_calls(project_on_each, 1, user="bob")
    with writing() as session:
        projects.request_erasure(session, session.get_one(Project, project_on_each), "ana", "test")
    assert run_job(asked()[0].id) == "done"
    assert calls() == 1
    assert asked() == []
    with reading() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "user.erased")).one()
    assert "ana" not in str(entry.detail)


@pytest.mark.parametrize(("given", "says"), [({"store_text": "some"}, "one of full"), ({"keep_days": -1}, "keep_days")])
def test_a_setting_that_cannot_be_is_refused_in_words(project: int, given: dict[str, Any], says: str) -> None:
    with writing() as session, pytest.raises(BadInput, match=says):
        projects.configure(session, session.get_one(Project, project), "test", **given)


def test_what_was_folded_is_no_new_evidence_for_a_rule(world_on_each: Any) -> None:
    from collector.retention import fold_rollups
    from scheduler.measures import Asked, captured_share, error_rate

    project, base = world_on_each.project_id, world_on_each.recorded("base")
    rates, shares = Asked("error_rate", {}, {"threshold": 0.1}), Asked("captured_share", {}, {"threshold": 0.9})
    read: dict[Any, dict[str, Any]] = {error_rate: {}, captured_share: {}}

    def add(now: int, n: int) -> None:
        with writing() as session:
            minute = now - now % MINUTE
            session.add(Rollup(project_id=project, variant_id=base.id, minute=minute, n=n, errors=n // 5))

    def look(now: int) -> list[float]:
        """Calls that each measure took for new."""
        found = []
        with reading() as session:
            for measure, asked in ((error_rate, rates), (captured_share, shares)):
                for _ in range(2):  # PostgreSQL's are read one look behind
                    seen = measure.look(session, project, asked, read[measure], now)
                    read[measure] = seen.cursor
                    found.append(sum(one.n for one in seen.evidence))
        return found

    began = 1_780_315_200_000_000
    look(began)
    for _ in range(20):
        add(began, 50)
    assert sum(look(began)) == 2000
    later = began + 3 * HOUR
    add(later, 50)
    assert fold_rollups(project, later - HOUR) == 19
    assert sum(look(later)) == 100
