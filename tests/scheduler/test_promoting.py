"""Promoting: one at a time on a route, and every variant shows the state that its routes give it."""

import threading
from time import sleep
from typing import Any

from sqlmodel import col, select

from driftline.acts.routes import end_canary, set_policy, start_canary
from driftline.acts.variants import find_route, find_variant, promote, rollback, set_baseline
from driftline.store.engine import reading, writing
from driftline.store.tables import AuditEntry, Reoptimization, Route, Variant
from scheduler.proposals import planned
from variants.recipe import Spec


def state_of(name: str) -> str:
    with reading() as session:
        return session.exec(select(Variant.state).where(Variant.name == name)).one()


def point(world: Any, name: str, route: str = "default") -> None:
    with writing() as session:
        promote(session, world.project_id, route, find_variant(session, world.project_id, name), "ann", "")


def test_of_two_promotions_at_once_the_second_replaces_the_first(world_on_each: Any) -> None:
    project_id = world_on_each.project_id
    ids = {name: world_on_each.recorded(name, right).id for name, right in (("old", 1), ("new", 2), ("newest", 3))}
    point(world_on_each, "old")
    promoted, waits = threading.Event(), threading.Event()

    def late() -> None:
        promoted.wait(10)
        with writing() as session:
            variant = find_variant(session, project_id, "newest")
            find_route(session, project_id, "default")  # as whoever looked at the route before
            waits.set()
            promote(session, project_id, "default", variant, "bob", "")

    second = threading.Thread(target=late)
    second.start()
    with writing() as session:
        promote(session, project_id, "default", find_variant(session, project_id, "new"), "ann", "")
        promoted.set()
        waits.wait(1.0)
        sleep(0.2)
    second.join(30)

    with reading() as session:
        route = session.exec(select(Route)).one()
        told = session.exec(
            select(AuditEntry).where(AuditEntry.action == "route.promoted").order_by(col(AuditEntry.id))
        ).all()
    assert [(one.detail["replaced_id"], one.detail["variant_id"]) for one in told] == [
        (None, ids["old"]), (ids["old"], ids["new"]), (ids["new"], ids["newest"]),
    ]  # fmt: skip
    assert (route.production_variant_id, route.version) == (ids["newest"], 4)
    assert [state_of(name) for name in ("old", "new", "newest")] == ["retired", "retired", "production"]
    with writing() as session:
        rollback(session, project_id, "default", "ann", "")
    assert state_of("new") == "production"


def test_what_is_replaced_but_tried_elsewhere_is_a_canary_and_nothing_else(world: Any) -> None:
    for place, name in enumerate(("a", "b", "c")):
        world.recorded(name, place)
    point(world, "a", "chat")
    point(world, "b", "search")
    with writing() as session:
        variant = find_variant(session, world.project_id, "a")
        start_canary(session, find_route(session, world.project_id, "search"), variant, 0.1, "ann", "")
    assert state_of("a") == "production", "it answers a whole route as well"
    point(world, "c", "chat")
    assert state_of("a") == "canary"
    with writing() as session:
        variant = find_variant(session, world.project_id, "a")
        assert end_canary(session, find_route(session, world.project_id, "search"), variant.id, "ann", "")
    assert state_of("a") == "candidate"


def test_what_was_tried_beside_it_keeps_serving_where_it_is_in_production(world: Any) -> None:
    for place, name in enumerate(("a", "b", "c")):
        world.recorded(name, place)
    point(world, "a", "chat")
    point(world, "b", "search")
    with writing() as session:
        variant = find_variant(session, world.project_id, "a")
        start_canary(session, find_route(session, world.project_id, "search"), variant, 0.1, "ann", "")
    point(world, "c", "search")
    assert state_of("a") == "production"


def test_a_baseline_that_was_replaced_is_not_in_production(world: Any) -> None:
    world.production(world.recorded("base", 60))
    world.recorded("small", 59)
    point(world, "small")
    assert state_of("base") == "candidate", "it is what production is judged against"
    point(world, "base")
    assert state_of("base") == "production"
    with writing() as session:
        route = find_route(session, world.project_id, "default")
        set_baseline(session, route, find_variant(session, world.project_id, "small"), "ann")
        set_policy(session, route, "ann", approval="auto")
    assert (state_of("base"), state_of("small")) == ("production", "candidate")


CHAIN = [{"method": "smollm2", "config": {}}]


def test_a_repair_that_exists_already_is_used_and_said_to(world: Any, golden: Any) -> None:
    def made(name: str, *methods: str) -> Variant:
        chain = [*CHAIN, *({"method": method, "config": {}} for method in methods)]
        spec = Spec.from_json({"runner": "transformers", "runner_config": {}, "chain": chain})
        variant: Variant = world.declare(name, spec.to_json())
        return variant

    base = made("base")
    world.production(base)
    broken, known = made("broken", "int8_dynamic"), made("eight bits", "int8_weight_only")
    with writing() as session:
        row = Reoptimization(
            project_id=world.project_id, route="default", subject_variant_id=broken.id, baseline_variant_id=base.id,
            created_at=0, updated_at=0,
        )  # fmt: skip
        plan, _ = planned(session, row, {"cause": "variant"})
    assert plan is not None
    (used,) = [one for one in plan["candidates"] if one["spec"] == known.spec]
    assert used["name"] == "eight bits"
    assert "the variant eight bits is made in just this way" in used["why"]
    assert len({one["name"] for one in plan["candidates"]}) == len(plan["candidates"]) > 1
