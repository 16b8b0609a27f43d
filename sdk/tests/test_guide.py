"""The guide's examples run, and it leaves no setting and no reason out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector

import driftline_sdk
from driftline_sdk.counts import Counts
from driftline_sdk.settings import Settings

GUIDE = Path(__file__).parents[2] / "docs" / "sdk.md"
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="the platform's guides are not here")


def test_its_examples_run_and_record(collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        names: dict[str, Any] = {"__name__": "guide"}
        exec(example.replace("http://127.0.0.1:8400", collector.endpoint), names)
        assert driftline_sdk.flush(5)
    assert len(collector.records) == 5
    assert len(collector.feedback) == 2


def test_every_setting_has_a_row_with_its_default() -> None:
    text = GUIDE.read_text()
    for name in Settings._fields:
        row = re.search(rf"^\| `{name}` \| (.*?) \| (.*?) \|", text, re.MULTILINE)
        assert row is not None, name
        assert name == "redact" or f"DRIFTLINE_{name.upper()}" in row[1]
        default = Settings._field_defaults[name]
        if isinstance(default, (int, float)):
            assert float(row[2]) == float(default)


def test_every_reason_is_explained() -> None:
    reasons = re.findall(r"`(\w+)`", (Counts.__doc__ or "").partition("Reasons:")[2])
    assert len(reasons) >= 9
    table = GUIDE.read_text().partition("| reason of a drop |")[2]
    assert [reason for reason in reasons if f"`{reason}`" not in table] == []
