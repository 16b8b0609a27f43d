"""The figure of variants worth having."""

import json
from typing import Any

from starlette.testclient import TestClient

from dashboard.figures.frontier import frontier_figure
from driftline.acts.frontier import Standing


def standing(name: str, quality: float, latency_ms: float, is_best: bool) -> Standing:
    return Standing(name, 1, "token_f1", {"quality": quality, "latency_ms": latency_ms}, is_best)


def test_those_that_nobody_beats_are_named_and_hostile_names_stay_text() -> None:
    drawn = frontier_figure([standing("<b>a</b>", 0.9, 100, True), standing("b", 0.5, 200, False)])

    assert drawn is not None
    assert "&lt;b&gt;a" in json.loads(drawn.figure)["data"][0]["text"][0]
    assert json.loads(drawn.figure)["data"][1]["x"] == [200]
    assert "Quality against latency of 2 variants" in drawn.label


def test_one_variant_alone_is_no_figure() -> None:
    assert frontier_figure([standing("a", 0.9, 100, True), Standing("b", 2, "token_f1", {}, False)]) is None


def test_pages_of_variants_show_what_replays_measured(seeded: Any, client: TestClient) -> None:
    listed = client.get("/variants").text
    one = client.get("/variants/smollm2-int8").text

    assert "Worth having" in listed
    assert "Measured at the last replay" in one
    assert "Cache hits" in one
    assert "25" in one.partition("Cache hits")[2][:120]
