"""A person clicks a proposed repair through to a promoted variant, in a real browser against real rows and jobs."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import alerts, monitors
from driftline.acts.golden import canonical, import_items
from driftline.acts.replays import request_replay
from driftline.acts.variants import declare, find_route, promote, set_baseline
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import AuditEntry, DriftEvent, Reoptimization, Route, Variant

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
QUESTIONS = [(f"What follows {n}?", str(n + 1)) for n in range(80)]
BLOCK_S = 0.02


def recorded(right: int) -> dict[str, Any]:
    """A variant of recorded answers, of which the first so many are right."""
    answers = {asked: truth if place < right else "no idea" for place, (asked, truth) in enumerate(QUESTIONS)}
    return {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []}


@pytest.fixture
def address(road: Any) -> Iterator[str]:
    """The web application of the road on a port that a browser can reach."""
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(road.client.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def propose(road: Any, make: Any) -> int:
    """Golden replays, then drifting traffic, until the repair of the bad variant is proposed."""
    params = {"block_s": BLOCK_S, "reference_items": 80, "reference_s": 0.0}
    with writing() as session:
        project = ensure_project(session).id
        items = [canonical({"input": asked, "expected": truth}) for asked, truth in QUESTIONS]
        version, _ = import_items(session, project, "numbers", items, "test", source="the test")
        base = declare(session, project, "base", recorded(76), "test")
        bad = declare(session, project, "int8", recorded(20), "test", base)
        promote(session, project, "qa", base, "test", "first")
        set_baseline(session, find_route(session, project, "qa"), base, "test")
        promote(session, project, "qa", bad, "test", "cheaper")
        alerts.add_channel(session, project, "slack", "slack", {"url": road.url}, "test")
        alerts.add_rule(session, project, "drift", "drift", "test", channels=["slack"])
        monitors.add(session, project, "qa/right", "quality", "test", route="qa", source="contains", params=params)
        request_replay(session, project, bad, version, "test", baseline=base, scorers=["contains"])
    road.work()
    for batch in range(30):
        road.send(*make("base", batch, 0.9, 300.0))
    road.work()
    for batch in range(120):
        road.send(*make("int8", batch, 0.2, 300.0))
        time.sleep(BLOCK_S / 2)
        if batch % 10 == 9:
            road.work()
            with reading() as session:
                row = session.exec(select(Reoptimization)).first()
            if row is not None:
                return row.id
    raise AssertionError("no repair was proposed")


@pytest.mark.browser
def test_a_click_builds_proves_and_promotes_the_repair(road: Any, make_records: Any, address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    number = propose(road, make_records)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        page.get_by_role("link", name="Review and decide").click()
        page.wait_for_url(f"**/reoptimizations/{number}")
        page.get_by_role("button", name="Approve").click()
        sync_api.expect(page.get_by_text("approved", exact=True).first).to_be_visible()
        deadline = time.monotonic() + 60
        while state(number) not in ("promoted", "rejected", "failed") and time.monotonic() < deadline:
            road.work(clock=False)
            time.sleep(0.2)
        sync_api.expect(page.locator("main")).to_contain_text("go back to the baseline", timeout=15_000)
        sync_api.expect(page.get_by_text("promoted", exact=True).first).to_be_visible(timeout=15_000)
        browser.close()
    assert faults == []
    with reading() as session:
        row = session.get_one(Reoptimization, number)
        assert row.state == "promoted", row.reason
        route = session.exec(select(Route).where(Route.name == "qa")).one()
        assert session.get_one(Variant, route.production_variant_id).name == "base"
        steps = session.exec(select(AuditEntry).where(AuditEntry.subject == f"reoptimization:{number}")).all()
        assert [step.action.partition(".")[2] for step in steps] == [
            "proposed", "approved", "building", "replaying", "gated", "promoted",
        ]  # fmt: skip
        assert steps[1].actor == row.decided_by == "local"
        assert session.get_one(DriftEvent, row.drift_event_id).state == "closed"


def state(number: int) -> str:
    with reading() as session:
        return session.get_one(Reoptimization, number).state
