"""Every page answers, says what it rests on, and shows hostile text as text."""

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from starlette.testclient import TestClient

PAGES = (
    "/", "/?window=7d", "/variants", "/variants/smollm2-int8", "/variants/smollm2-fp32?window=6h",
    "/variants/org/model%20%3Cscript%3Ealert(%22x%22)%3C/script%3E%3Cimg%20src=x%20on", "/comparisons",
    "/comparisons/{comparison}", "/comparisons/{undecided}", "/drift-events", "/drift-events/{event}", "/alerts",
    "/alerts?state=resolved", "/alerts?state=acknowledged", "/alerts/{alert}", "/reoptimizations",
    "/reoptimizations/{proposed}", "/reoptimizations/{promoted}", "/golden-sets", "/golden-sets/capitals",
    "/golden-sets/capitals?version=1", "/replays", "/replays/{replay}", "/replays/{running}", "/monitors",
    "/monitors/{monitor}", "/jobs", "/login",
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
def test_a_page_answers_and_lets_no_hostile_text_through(path: str, seeded: Any, client: TestClient) -> None:
    answer = client.get(path.format(**seeded.ids))

    assert answer.status_code == 200, answer.text
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "onerror=alert(1)>" not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_figures_are_valid_plotly(path: str, seeded: Any, client: TestClient) -> None:
    for text in FIGURES.findall(client.get(path.format(**seeded.ids)).text):
        assert "</" not in text
        figure = go.Figure(json.loads(text))  # refuses what Plotly does not know
        assert figure.data


def test_pages_with_figures_draw_them(seeded: Any, client: TestClient) -> None:
    for path, wanted in (("/", 2), ("/comparisons/{comparison}", 1), ("/drift-events/{event}", 2)):
        assert len(FIGURES.findall(client.get(path.format(**seeded.ids)).text)) == wanted
