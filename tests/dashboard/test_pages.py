"""Every page answers, says what it rests on, and shows hostile text as text."""

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from sqlalchemy import event, update
from starlette.testclient import TestClient

from driftline.access import forget_callers
from driftline.settings import settings
from driftline.store.engine import engine, writing
from driftline.store.tables import (
    Alert,
    Comparison,
    DriftEvent,
    Monitor,
    Reading,
    Reference,
    Reoptimization,
    Replay,
    Variant,
)

PAGES = (
    "/", "/?window=7d", "/variants", "/variants/smollm2-int8", "/variants/smollm2-fp32?window=6h",
    "/variants/org/model%20%3Cscript%3Ealert(%22x%22)%3C/script%3E%3Cimg%20src=x%20on", "/comparisons",
    "/comparisons/{comparison}", "/comparisons/{undecided}", "/drift-events", "/drift-events/{event}", "/alerts",
    "/rules",
    "/alerts?state=resolved", "/alerts?state=acknowledged", "/alerts/{alert}", "/reoptimizations",
    "/reoptimizations/{proposed}", "/reoptimizations/{promoted}", "/golden-sets", "/golden-sets/capitals",
    "/golden-sets/capitals?version=1", "/replays", "/replays/{replay}", "/replays/{running}", "/monitors",
    "/monitors/{monitor}", "/jobs", "/intake", "/intake?window=7d", "/login", "/docs", "/routes", "/people",
)  # fmt: skip
PARTS = (
    "/parts/overview/attention", "/parts/overview/running", "/parts/overview/variants?window=24h",
    "/parts/comparisons/{comparison}/flips?side=worse&start=10", "/parts/comparisons/{comparison}/flips?side=better",
    "/parts/reoptimizations/{proposed}", "/parts/replays/{running}/progress",
    "/parts/replays/{replay}/answers?start=20",
    "/parts/golden-versions/{version}/items?start=20", "/parts/monitors/{monitor}", "/parts/jobs",
)  # fmt: skip
FIGURES = re.compile(r'<script type="application/json">(.*?)</script>', re.S)


@pytest.mark.parametrize("path", [*PAGES, *PARTS])
def test_a_page_answers_and_hostile_text_stays_text(path: str, seeded: Any, client: TestClient) -> None:
    answer = client.get(path.format(**seeded.ids))

    assert answer.status_code == 200, answer.text
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "onerror=alert(1)>" not in answer.text
    for text in FIGURES.findall(answer.text):
        assert "</" not in text
        assert go.Figure(json.loads(text)).data  # which refuses what Plotly does not know


def test_pages_with_figures_draw_them(seeded: Any, client: TestClient) -> None:
    for path, wanted in (("/", 3), ("/comparisons/{comparison}", 1), ("/drift-events/{event}", 2)):
        assert len(FIGURES.findall(client.get(path.format(**seeded.ids)).text)) == wanted


FOREIGN = (
    "/variants/theirs", "/golden-sets/their-set", "/comparisons/{comparisons}", "/drift-events/{drift-events}",
    "/drift-events/{drift-events}/report", "/alerts/{alerts}", "/reoptimizations/{reoptimizations}",
    "/replays/{replays}", "/monitors/{monitors}", "/parts/comparisons/{comparisons}/flips",
    "/parts/reoptimizations/{reoptimizations}", "/parts/replays/{replays}/progress", "/parts/replays/{replays}/answers",
    "/parts/golden-versions/{golden-versions}/items", "/golden-versions/{golden-versions}/changes",
    "/parts/monitors/{monitors}",
)  # fmt: skip


@pytest.mark.parametrize("path", FOREIGN)
def test_a_page_of_another_project_does_not_exist(path: str, seeded: Any, client: TestClient) -> None:
    answer = client.get(path.format(**seeded.foreign_ids))

    assert answer.status_code == 404
    assert "Not found" in answer.text


@pytest.mark.parametrize("path", [path for path in PAGES if "{" not in path])
def test_lists_show_nothing_of_another_project(path: str, seeded: Any, client: TestClient) -> None:
    text = client.get(path).text

    assert "theirs" not in text
    assert "their-" not in text
    assert "their." not in text


@pytest.mark.parametrize(
    ("path", "next_command"),
    [
        ("/", "driftline demo"),
        ("/variants", "driftline variant add"),
        ("/golden-sets", "driftline golden import"),
        ("/replays", "driftline replay"),
        ("/comparisons", "driftline replay"),
        ("/monitors", "driftline monitor add"),
        ("/drift-events", "driftline monitor add"),
        ("/alerts", "driftline alert"),
        ("/reoptimizations", "drift event"),
        ("/jobs", "driftline schedule add"),
    ],
)
def test_an_empty_page_tells_what_to_type_next(path: str, next_command: str, store: Any, client: TestClient) -> None:
    forget_callers()
    answer = client.get(path)

    assert answer.status_code == 200
    assert next_command in answer.text


def test_numbers_say_what_they_rest_on(seeded: Any, client: TestClient) -> None:
    comparison = client.get(f"/comparisons/{seeded.ids['comparison']}").text
    assert "119 items of capitals@1" in comparison
    assert "reference_likelihood" in comparison
    assert "(version 1)" in comparison
    event = client.get(f"/drift-events/{seeded.ids['event']}").text
    for wanted in ("412 items", "99.4 % of traffic was captured", "97</b> items", "baseline_likelihood", "0.333 %"):
        assert wanted in event
    assert "99.4 %</b> of all known calls were captured" in client.get("/").text


def test_a_drift_event_shows_whether_it_is_still_the_same_model(seeded: Any, client: TestClient) -> None:
    text = client.get(f"/drift-events/{seeded.ids['event']}").text
    section = text[text.index('id="same"') : text.index('id="second"')]
    for wanted in (
        "Its golden answers differ in kind.",
        "Asked again",
        "Fingerprint",
        "40 pairs, 3 identical, p 0.001",
    ):
        assert wanted in section
    assert section.count("changed") >= 2
    with writing() as session:
        row = session.get_one(DriftEvent, seeded.ids["event"])
        asked = row.evidence["same_model"] | {"state": "asked", "verdict": "unknown", "looked": []}
        row.evidence = row.evidence | {"same_model": asked}
        session.add(row)
    assert "The model is being asked again" in client.get(f"/drift-events/{seeded.ids['event']}").text


def test_a_live_part_is_sent_again_only_when_it_has_changed(seeded: Any, client: TestClient) -> None:
    path = f"/parts/reoptimizations/{seeded.ids['proposed']}"
    seen = re.search(r'hx-get="([^"]+)"', client.get(path).text)
    assert seen is not None

    assert client.get(seen[1]).status_code == 204
    client.post(f"/api/reoptimizations/{seeded.ids['proposed']}/approve")
    changed = client.get(seen[1])
    assert changed.status_code == 200
    assert 'aria-current="step"><span>approved' in changed.text


def test_flips_turn_pages_without_gaps(seeded: Any, client: TestClient) -> None:
    path, seen, start = f"/parts/comparisons/{seeded.ids['comparison']}/flips", [], 0
    total = len(client.get(f"/api/comparisons/{seeded.ids['comparison']}").json()["evidence"]["flips"])
    for side in ("worse", "better"):
        start = 0
        while cards := client.get(path, params={"side": side, "start": start}).text.count('<article class="flip">'):
            seen.append(cards)
            start += 6

    assert sum(seen) == total


def test_no_page_reads_through_the_traffic(seeded: Any, client: TestClient) -> None:
    statements = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(engine(), "before_cursor_execute", remember)
    for path in (*PAGES, *PARTS):
        client.get(path.format(**seeded.ids))
    event.remove(engine(), "before_cursor_execute", remember)

    with engine().connect() as connection:
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in plan]
            assert not [step for step in steps if re.match(r"SCAN (generation|score|answer|reading|rollup)\b", step)], (
                statement,
                steps,
            )


@pytest.mark.parametrize(
    "path", ["/alerts/abc", "/drift-events/0", "/comparisons/9999", "/variants/none", "/replays/1e3"]
)
def test_what_is_not_there_is_a_page_that_says_so(path: str, seeded: Any, client: TestClient) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no" in answer.text


def test_a_store_that_does_not_answer_is_a_page_that_says_so(
    data_dir: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    settings.cache_clear()
    forget_callers()

    answer = client.get("/")

    assert answer.status_code == 503
    assert "DRIFTLINE_DATABASE_URL" in answer.text
    assert "secret" not in answer.text


DOCUMENTS = (
    (
        DriftEvent,
        {"effect": {}, "evidence": {}, "cause": None, "began_at": None, "began_low": None, "began_high": None},
    ),
    (Comparison, {"evidence": {}, "slices": None, "p_value": None, "margin": 0.0}),
    (Variant, {"measured": {}, "spec": {}}),
    (Alert, {"body": {}, "labels": {}}),
    (Reoptimization, {"plan": {}, "evidence": {}}),
    (Monitor, {"params": {}, "pending": {"problem": "too few values"}}),
    (Reading, {"evidence": {}, "value": None}),
    (Reference, {"frozen": {}}),
    (Replay, {"sampling": {}, "scorers": []}),
)


@pytest.mark.parametrize("path", [*PAGES, *PARTS])
def test_a_page_shows_rows_about_which_little_is_known(path: str, seeded: Any, client: TestClient) -> None:
    with writing() as session:
        for table, bare in DOCUMENTS:
            session.connection().execute(update(table).values(**bare))

    assert client.get(path.format(**seeded.ids)).status_code == 200


def test_a_judges_own_noise_and_its_drift_stand_beside_the_verdict(seeded: Any, client: TestClient) -> None:
    judge = {"agreement": 0.8, "baseline_agreement": 0.75, "own_reach": 0.012}
    drift = {"anchors": 30, "drift": -0.25, "reach": 0.05, "level": 0.95, "bias": 0.0}
    with writing() as session:
        row = session.get_one(Comparison, seeded.ids["comparison"])
        row.evidence = row.evidence | {"judge": judge}
        replay = session.get_one(Replay, row.candidate_replay_id)
        replay.judges = {"judge": {"repeats": {"scores": 40, "agreement": 32.0, "noise": 0.4}}}
        session.add_all([row, replay])
    text = client.get(f"/comparisons/{seeded.ids['comparison']}").text
    assert "repeats agree in 80 % of pairs (baseline 75 %); its own noise alone makes ± 0.012 of the interval" in text
    assert "The judge moved" not in text
    assert "On 40 answers the repeats of judge agree in 80 % of pairs" in client.get(f"/replays/{replay.id}").text
    with writing() as session:
        row = session.get_one(Comparison, seeded.ids["comparison"])
        row.evidence = row.evidence | {"judge": judge | drift}
        session.add(row)
    assert "The judge moved by" in client.get(f"/comparisons/{seeded.ids['comparison']}").text
