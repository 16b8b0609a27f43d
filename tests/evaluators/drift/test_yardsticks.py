"""What others would use on the same stream: behind the same protocol, and out of a monitor's reach."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from benchmarks.detection_null import page_hinkley
from driftline.errors import BadInput, NotFound
from evaluators.drift import DETECTORS, YARDSTICKS, Detector, detector, yardstick

GOOD = [random.Random(1).random() for _ in range(300)]
PARAMS: dict[str, dict[str, Any]] = {
    "adwin": {},
    "page-hinkley": {"threshold": 10.0},
    "ks-window": {"reference": GOOD, "window": 50},
}


@pytest.fixture(params=sorted(YARDSTICKS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param != "ks-window":
        pytest.importorskip("river", reason="river is not installed")
    return str(request.param)


def made(name: str) -> Detector:
    return yardstick(name, PARAMS[name])


def test_every_yardstick_has_its_parameters_here() -> None:
    assert set(PARAMS) == set(YARDSTICKS)


def test_a_yardstick_finds_what_moved(name: str) -> None:
    watch, rng = made(name), random.Random(2)
    for _ in range(20):
        watch.update([rng.random() for _ in range(50)])
    assert any(watch.update([0.8 + rng.random() for _ in range(50)]).alarmed for _ in range(10))


def test_a_yardstick_goes_on_from_its_state(name: str) -> None:
    watch, rng = made(name), random.Random(3)
    for _ in range(7):
        watch.update([rng.random() for _ in range(33)])
    kind = type(watch)
    again = kind.from_state(json.loads(json.dumps(watch.state())))
    for _ in range(20):
        block = [0.3 + rng.random() for _ in range(33)]
        assert again.update(block).alarmed == watch.update(block).alarmed
    assert again.state() == watch.state()


def test_a_yardstick_refuses_what_cannot_be_used(name: str) -> None:
    watch = made(name)
    for bad in (math.nan, math.inf):
        with pytest.raises(BadInput, match="index 1"):
            watch.update([0.5, bad])
    assert watch.update([]).value is None


def test_no_monitor_can_alarm_by_a_yardstick() -> None:
    assert not set(YARDSTICKS) & set(DETECTORS)
    for name in YARDSTICKS:
        with pytest.raises(NotFound):
            detector(name, {})
    with pytest.raises(NotFound, match="adwin"):
        yardstick("esr", {})


def test_options_that_river_does_not_take_are_told() -> None:
    pytest.importorskip("river", reason="river is not installed")
    with pytest.raises(BadInput, match="does not take \\['colour'\\]"):
        yardstick("adwin", {"colour": "red"})
    with pytest.raises(BadInput, match="a window"):
        yardstick("ks-window", {"reference": [], "window": 5})


def test_the_benchmarks_fast_page_hinkley_is_rivers() -> None:
    pytest.importorskip("river", reason="river is not installed")
    rng = np.random.default_rng(4)
    stream = rng.random(20_000) < np.where(np.arange(20_000) % 5000 < 2500, 0.9, 0.6)
    watch = yardstick("page-hinkley", {})
    theirs = sum(watch.update([float(x)]).detail["alarms"] for x in stream)
    assert theirs > 0
    assert page_hinkley(stream[:, None]) == theirs
