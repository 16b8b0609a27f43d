"""What a monitor reads: the rows of its route and signal, each once, in order of arrival, bounded in number."""

from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import monitors
from driftline.acts.variants import find_route
from driftline.moment import SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import Monitor, Reading, Score
from scheduler.signals import Row, count_since, first_arrival, last_place, read_rows, stretch_end
from scheduler.work import run_job

T = 1_780_315_200 * SECOND


def monitor(world: Any, signal: str, **told: Any) -> Monitor:
    with writing() as session:
        row = monitors.add(session, world.project_id, f"{signal} {told}", signal, "test", **told)
        row.state = None
    return row


def read(row: Monitor, **bounds: Any) -> list[Row]:
    with reading() as session:
        return read_rows(session, row, **({"after": 0} | bounds))


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("errors", [0.0, 1.0, 0.0, 0.0]),
        ("empty", [0.0, 0.0, 0.0, 1.0]),
        ("latency", [400.0, 700.0]),
        ("ttft", [40.0]),
    ],
)
def test_each_signal_reads_its_own_number(world_on_each: Any, signal: str, expected: list[float]) -> None:
    world_on_each.traffic(
        world_on_each.recorded("base"), [T, T + 1, T + 2, T + 3], status=["ok", "error", "aborted", "ok"],
        latency_ms=[400.0, 5.0, 100.0, 700.0], ttft_ms=[40.0, None, None, None], output_chars=[3, 0, 0, 0],
    )  # fmt: skip
    assert [row.level for row in read(monitor(world_on_each, signal))] == expected


def test_a_call_without_latency_is_no_row_of_a_latency_monitor(world: Any) -> None:
    world.traffic(world.recorded("base"), [T, T + 1], latency_ms=[None, 300.0], input_tokens=12, output_tokens=[1, 7])
    (row,) = read(monitor(world, "latency"))
    assert row.value == (300.0, 12, 7)


def test_quality_reads_the_scores_of_its_evaluator_in_the_order_they_were_given(world_on_each: Any) -> None:
    world = world_on_each
    seqs = world.traffic(world.recorded("base"), [T, T + 1, T + 2])
    with writing() as session:
        for seq, evaluator, value in ((2, "empty", 1.0), (0, "empty", 0.5), (1, "empty", None), (1, "refusal", 1.0)):
            session.add(
                Score(
                    project_id=world.project_id, evaluator=evaluator, version="1", generation_seq=seqs[seq],
                    value=value, arrived_at=T + seq, created_at=T + 9,
                )
            )  # fmt: skip
            session.flush()
    found = read(monitor(world, "quality", source="empty"))
    assert [(row.generation_seq, row.value, row.arrived_at) for row in found] == [
        (seqs[2], 1.0, T + 2), (seqs[0], 0.5, T),
    ]  # fmt: skip


def test_other_routes_projects_and_variants_are_not_read(world: Any) -> None:
    base, other = world.recorded("base"), world.recorded("other")
    world.traffic(base, [T, T + 1])
    world.traffic(base, [T + 2], route="other")
    world.traffic(other, [T + 3])
    row = monitor(world, "errors")
    assert len(read(row)) == 3
    row.variant_id = other.id
    assert [one.variant_id for one in read(row)] == [other.id]


def test_rows_are_bounded_by_place_and_by_moment(world: Any) -> None:
    seqs = world.traffic(world.recorded("base"), [T + n for n in range(6)])
    row = monitor(world, "errors")
    assert [one.place for one in read(row, after=seqs[1])] == seqs[2:]
    assert [one.place for one in read(row, before_us=T + 4)] == seqs[:4]
    assert [one.place for one in read(row, up_to=seqs[2])] == seqs[:3]


def test_many_rows_become_a_sample_that_every_run_agrees_on(world: Any) -> None:
    seqs = world.traffic(world.recorded("base"), [T + n for n in range(300)])
    row = monitor(world, "errors")
    sample = [one.place for one in read(row, most=50)]
    assert sample == [one.place for one in read(row, most=50)]
    assert sample == sorted(sample)
    assert len(set(sample)) == 50
    quarters = [sum(low <= place - seqs[0] < low + 75 for place in sample) for low in range(0, 300, 75)]
    assert min(quarters) >= 4, "a uniform sample takes from every part of the window"


def test_the_end_of_a_stretch_is_where_both_its_rules_are_met(world_on_each: Any) -> None:
    seqs = world_on_each.traffic(world_on_each.recorded("base"), [T + n * SECOND for n in range(10)])
    row = monitor(world_on_each, "errors")

    def end(items: int, span_s: int, before_s: float = 100) -> int | None:
        before = T + int(before_s * SECOND)
        with reading() as session:
            return stretch_end(session, row, after=0, items=items, span_us=span_s * SECOND, before_us=before)

    assert end(4, 0) == seqs[3]
    assert end(4, 6) == seqs[6]
    assert end(8, 6) == seqs[7]
    assert end(11, 0) is None
    assert end(4, 10) is None
    assert end(4, 0, before_s=3) is None


def test_the_rows_of_a_long_reference_are_not_looked_through_while_it_grows(world: Any) -> None:
    from sqlalchemy import event

    from driftline.store.engine import engine

    world.traffic(world.recorded("base"), [T + n * SECOND for n in range(50)])
    row, statements = monitor(world, "errors"), list[str]()
    event.listen(engine(), "before_cursor_execute", lambda *given: statements.append(given[2]))

    def end(span_s: int, before_s: int) -> int | None:
        statements.clear()
        with reading() as session:
            return stretch_end(session, row, after=0, items=5, span_us=span_s * SECOND, before_us=T + before_s * SECOND)

    assert end(3600, 60) is None
    assert sum("SELECT" in one for one in statements) == 1, "the first row alone"
    assert end(3600, 4000) is None, "the hour is over, and no row has come since"
    assert not any("received_at >= " in one for one in statements), "the newest rows were enough"
    assert end(30, 60) is not None


def test_records_without_a_value_are_passed_over_once_and_the_first_value_is_found(
    world: Any, time: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import signals

    monkeypatch.setattr(signals, "BARREN", 50)
    base, told = world.recorded("base"), {"block_s": 60.0, "reference_items": 60, "reference_s": 0.0}
    row = monitor(world, "cost", params=told)

    def check() -> Monitor:
        time.advance(63)
        assert run_job(ask("monitor.check", {"monitor_id": row.id}, project_id=world.project_id)) == "done"
        with reading() as session:
            return session.get_one(Monitor, row.id)

    seqs = world.traffic(base, [time.now + n for n in range(120)])
    now = check()
    assert (now.status, now.cursor) == ("collecting", seqs[99]), "two stretches of fifty; the rest may still fill"
    assert "none has what the signal cost reads" in now.pending["problem"]
    world.traffic(base, [time.now + n for n in range(60)], cost_nano=[1000 + n for n in range(60)])
    now = check()
    assert (now.status, now.pending) == ("watching", {})
    without = world.traffic(base, [time.now + n for n in range(60)])
    assert check().cursor == without[49]
    world.traffic(base, [time.now + n for n in range(10)], cost_nano=1000)
    check()
    with reading() as session:
        assert [one.n for one in session.exec(select(Reading))] == [10]


def test_places_and_arrivals_of_a_stream_without_rows(world: Any) -> None:
    row = monitor(world, "errors")
    with reading() as session:
        assert first_arrival(session, row, after=0) is None
        assert last_place(session, row, after=7, before_us=T) == 7
        assert count_since(session, row, started_us=0, up_to=100) == 0


def test_a_monitor_of_a_route_that_was_never_asked_for_reads_nothing(world: Any) -> None:
    with writing() as session:
        find_route(session, world.project_id, "quiet")
    assert read(monitor(world, "errors", route="quiet")) == []
