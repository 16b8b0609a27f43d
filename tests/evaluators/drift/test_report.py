"""The window report: Evidently's page, our verdicts, its defaults beside them, and nothing left changed behind."""

import ast
import json
import math
import os
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import evaluators
from driftline.errors import BadInput
from evaluators.drift.report import Report, window_report


def traffic(seed: int, n: int, *, slower: float = 1.0, hidden: float = 0.0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    return {
        "latency_ms": (slower * rng.lognormal(4, 0.3, n)).tolist(),
        "quality": [None if rng.random() < hidden else float(q) for q in rng.beta(3, 1, n)],
        "status": rng.choice(["ok", "error"], n, p=[0.97, 0.03]).tolist(),
        "response": [f"Answer number {i}. " * int(k) for i, k in enumerate(rng.integers(1, 9, n))],
    }


@pytest.fixture(scope="module")
def slower() -> Report:
    current = traffic(2, 300, slower=1.6, hidden=0.5) | {"broken": [math.inf] * 300, "only here": [1] * 300}
    return window_report(traffic(1, 400) | {"broken": [1.0] * 400}, current, title="Canary <1>")


def test_the_report_names_the_columns_that_moved_and_no_others(slower: Report) -> None:
    columns = slower.data["columns"]
    assert {name for name, row in columns.items() if row["moved"]} == {"latency_ms"}
    assert {name for name, row in columns.items() if row["missing_moved"]} == {"quality"}
    assert columns["latency_ms"]["current"]["p50"] > 1.4 * columns["latency_ms"]["reference"]["p50"]


def test_what_evidentlys_defaults_say_stands_beside_every_verdict(slower: Report) -> None:
    assert set(slower.defaults) == set(slower.data["columns"])
    assert slower.defaults["latency_ms"]["drift"] is True
    assert slower.defaults["status"]["test"] == "Z-test p_value"
    assert "default (never alarms)" in slower.html


def test_texts_are_compared_by_descriptors_that_need_no_model(slower: Report) -> None:
    assert {"response: characters", "response: words", "response: valid JSON"} <= set(slower.data["columns"])


def test_columns_that_cannot_be_compared_are_left_out_with_the_reason(slower: Report) -> None:
    assert slower.data["skipped"] == {
        "broken": "all values are missing in the current",
        "only here": "the reference has no such column",
    }


def test_the_page_loads_nothing_from_elsewhere_and_escapes_what_it_shows(slower: Report) -> None:
    assert "Canary &lt;1&gt;" in slower.html
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", slower.html)
    assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", slower.html)


def test_the_data_are_plain_json(slower: Report) -> None:
    assert json.loads(json.dumps(slower.data, allow_nan=False)) == slower.data
    json.dumps(slower.defaults, allow_nan=False)


def test_the_process_is_left_as_it_was() -> None:
    np.random.seed(7)
    random.seed(7)
    before = (np.random.get_state()[1].tolist(), random.getstate(), warnings.formatwarning, list(warnings.filters))
    window_report({"quality": [0.1, 0.9] * 20}, {"quality": [0.2, 0.8] * 20})
    after = (np.random.get_state()[1].tolist(), random.getstate(), warnings.formatwarning, list(warnings.filters))
    assert before == after
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_long_tables_are_sampled_the_same_way_every_time() -> None:
    sides = [{"latency_ms": traffic(seed, n)["latency_ms"]} for seed, n in ((5, 900), (6, 700))]
    one, two = (window_report(*sides, max_rows=200) for _ in range(2))
    assert one.data["rows"] == {"reference": 900, "current": 700}
    assert one.data["rows_used"] == {"reference": 200, "current": 200}
    assert one.data == two.data


@pytest.mark.slow
def test_calm_windows_are_rarely_called_moved_where_the_defaults_often_call_drift() -> None:
    ours = theirs = 0
    for seed in range(2):
        rng = np.random.default_rng(100 + seed)
        sides = [{f"column {i}": rng.lognormal(0, 1, n).tolist() for i in range(12)} for n in (1001, 50)]
        report = window_report(*sides)
        ours += sum(row["moved"] for row in report.data["columns"].values())
        theirs += sum(said["drift"] for said in report.defaults.values())
    assert ours <= 1
    assert theirs >= 16


@pytest.mark.parametrize(
    ("reference", "current", "says"),
    [
        ({"latency_ms": []}, {"latency_ms": [1.0]}, "reference has no rows"),
        ({"a": [1.0, 2.0], "b": [1.0]}, {"a": [1.0]}, "reference is no table"),
        ({"a": [None]}, {"a": [1.0]}, "No column can be compared"),
    ],
)
def test_windows_that_cannot_be_compared_say_why(reference: dict, current: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        window_report(reference, current)


def test_one_file_of_the_room_imports_evidently_and_only_inside_functions() -> None:
    root = Path(evaluators.__file__).parent
    importing = {}
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = [
            (node in tree.body, alias.name if isinstance(node, ast.Import) else node.module or "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        importing[path.relative_to(root).as_posix()] = [top for top, name in names if name.split(".")[0] == "evidently"]
    assert {path for path, found in importing.items() if found} == {"drift/report.py"}
    assert not any(importing["drift/report.py"])
