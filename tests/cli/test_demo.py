"""The demo: who plays in it, how it tells the time, and its story on recorded answers from beginning to end."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driftline.cli.demo.history import DATA
from driftline.cli.demo.size import FULL, QUICK
from driftline.cli.demo.smollm import cast
from driftline.cli.demo.story import tell
from driftline.cli.demo.telling import remaining_s
from driftline.errors import Conflict
from driftline.settings import settings


def test_bf16_is_computed_in_only_where_the_processor_does_it_natively() -> None:
    assert cast("flags : fpu avx512_bf16 sse").base == "smollm2-bf16"
    without = cast("flags : fpu avx2 sse")
    assert without.base == "smollm2-fp32"
    told = [step for name in without.methods for step in without.chain(name)]
    assert {"method": "int8_weight_only", "config": {"compute": "float32"}} in told
    assert "bf16" not in {step["method"] for step in told}


@pytest.mark.parametrize("cpu", ["avx512_bf16", ""])
def test_every_part_is_another_variant_made_from_its_baseline(cpu: str) -> None:
    parts = cast(cpu)
    names = [parts.base, parts.harmless, parts.broken, parts.broken_too]
    assert len(set(names)) == 4
    assert set(names) == set(parts.methods)
    base = parts.methods[parts.base]
    assert all(parts.methods[name][: len(base)] == base for name in names)


def test_the_remaining_time_follows_the_pace_of_the_machine() -> None:
    assert remaining_s([10, 100, 40], 0, 0.0) == 150
    assert remaining_s([10, 100, 40], 2, 110.0) == 40
    assert remaining_s([10, 100, 40], 2, 330.0) == 120
    assert remaining_s([1, 100, 40], 1, 30.0) == 140  # a slow first second says nothing yet
    assert remaining_s([10, 100, 40], 3, 500.0) == 0


def test_the_promised_times_are_those_of_the_sizes() -> None:
    assert sum(QUICK.chapters_s[:-1]) <= 180
    assert sum(FULL.chapters_s[:-1]) <= 600


def test_a_second_demo_leaves_the_first_and_every_real_store_alone(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {"DATABASE_URL": "postgresql://production.example/driftline", "BROKER_URL": "redis://production.example"}
    for name in ("HOST", "SWEEP_S", "SETTLE_S", "ALLOW_PRIVATE_WEBHOOKS", *real):
        monkeypatch.setenv(f"DRIFTLINE_{name}", real.get(name, "1"))  # what the demo sets ends with this test
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(data_dir))
    settings.cache_clear()
    folder = data_dir / "demo"
    folder.mkdir(parents=True)
    (folder / "driftline.db").write_text("of the first demo")
    with (folder / "up.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="Another Driftline is up on the data folder"):
            tell(quick=True, leave=True, history=False, auto=False, as_json=False)
    assert (folder / "driftline.db").read_text() == "of the first demo"
    assert settings().database == f"sqlite:///{folder}/driftline.db"
    assert settings().embedded_broker


@pytest.mark.slow
@pytest.mark.parametrize("auto", [False, True])
def test_the_story_is_told_on_recorded_answers_and_with_auto_nobody_is_asked(tmp_path: Path, auto: bool) -> None:
    if not DATA.is_file():
        pytest.skip("the LLMDrift data is not in ../shared/data/llmdrift")
    told = subprocess.run(
        [sys.executable, "-m", "driftline", "demo", "--history", "--exit", "--json", *(["--auto"] if auto else [])],
        env=os.environ | {"DRIFTLINE_DATA_DIR": str(tmp_path), "DRIFTLINE_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    document = json.loads(told.stdout)
    rows = {row["what"]: row for row in document["rows"]}
    assert rows["gpt-4-0613 on the golden set"]["verdict"] == "worse"
    drift = rows["assistant/quality drift"]
    assert not drift["alarm_before_injection"]
    assert 0 < drift["records_to_detection"] < 700
    assert drift["began_at"] <= drift["detected_at"]
    repair = rows["repair"]
    if auto:
        assert (repair["state"], repair["approved_by"]) == ("promoted", "policy:auto")
        assert repair["promoted"] == "gpt-4-0314", "the one that is known to be better"
        assert 0 < repair["promoted_after_s"] < 600
        assert "approved by policy:auto" in repair["found"]
    else:
        assert (repair["state"], repair["approved_by"]) == ("proposed", None)
