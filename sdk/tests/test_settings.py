"""Settings come from arguments, else the environment; a mistake in them costs nothing but itself."""

from __future__ import annotations

from typing import Any

import pytest
from local_collector import Collector, start
from scripts import run

import driftline_sdk
from driftline_sdk import faults, process
from driftline_sdk.settings import Settings, UnusableSetting, settings


def test_arguments_win_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {
        "DRIFTLINE_VARIANT": "from the environment",
        "DRIFTLINE_TAGS": "a=1, b=2",
        "DRIFTLINE_QUEUE_MAX": "5",
    }
    chosen = settings({"variant": "given", "api_key": None}, environment)
    assert (chosen.variant, chosen.tags, chosen.queue_max) == ("given", {"a": "1", "b": "2"}, 5)
    assert chosen.endpoint == Settings().endpoint == "http://127.0.0.1:8400"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", 1.5),
        ("sample_rate", "many"),
        ("endpoint", "localhost:8400"),
        ("queue_max", 0),
        ("interval_s", -1),
        ("timeout_s", 0),
        ("tags", "no equals sign"),
        ("redact", "not a function"),
        ("enabled", "perhaps"),
        ("spool_dir", 5),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_and_its_default_stands(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnusableSetting, match=name):
        settings({name: value}, {})
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    assert settings({name: value}, {}) == Settings()


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"'endpiont'; it has endpoint"):
        driftline_sdk.init(endpiont="http://x")


def test_the_environment_alone_is_enough(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_looked", False)
    monkeypatch.setenv("DRIFTLINE_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("DRIFTLINE_VARIANT", "from the environment")
    monkeypatch.setenv("DRIFTLINE_SPOOL_DIR", "")
    sent = driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    assert collector.records[sent]["variant"] == "from the environment"


def test_disabled_or_not_started_nothing_happens(collector: Collector) -> None:
    for started in (False, True):
        if started:
            start(collector, enabled=False)
        with driftline_sdk.generation("q", tags={"a": "b"}) as g:
            g.first_token()
            g.tags["c"] = "d"
            g.output = "a"
        assert len(driftline_sdk.record(output="a")) == 32
        assert len(driftline_sdk.feedback(g.id, "good", True)) == 32
        with driftline_sdk.context(session_id="s"):
            assert driftline_sdk.flush(1)
        assert driftline_sdk.shutdown(1)
        assert driftline_sdk.stats() == {}
    assert collector.requests == []


def test_starting_again_replaces_the_settings_and_loses_nothing(collector: Collector) -> None:
    start(collector, variant="one", interval_s=5)
    first = driftline_sdk.record(output="a")
    start(collector, variant="two")
    second = driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    from local_collector import eventually

    assert eventually(lambda: len(collector.records) == 2)
    assert (collector.records[first]["variant"], collector.records[second]["variant"]) == ("one", "two")


@pytest.mark.parametrize("call", ["generation", "record", "feedback", "context", "flush", "watch", "init"])
def test_a_mistake_of_ours_never_reaches_the_application(
    call: str, sdk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("our mistake")

    import driftline_sdk.libraries

    active = process.active
    for owner, name in ((process, "client"), (process, "start"), (driftline_sdk.libraries, "watch_with")):
        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setattr(active, "flush", broken)
    arguments = {"feedback": ("g", "good", True), "watch": (object(),)}.get(call, ())
    with pytest.raises(RuntimeError, match="our mistake"):
        getattr(sdk, call)(*arguments)
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    before = sum(sdk.stats()["errors"].values())
    getattr(sdk, call)(*arguments)
    getattr(sdk, call)(*arguments)
    assert sum(sdk.stats()["errors"].values()) == before + 2
    assert len([entry for entry in caplog.records if entry.name == "driftline_sdk"]) <= 1


def test_a_broken_generation_still_runs_the_application_s_block(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    with sdk.generation("q", tags=5) as g:
        g.output = "a"
    assert g.output == "a"


def test_importing_costs_little_and_brings_nothing_along() -> None:
    ended = run(
        """
        import sys, time
        before = set(sys.modules)
        began = time.perf_counter()
        import driftline_sdk
        print((time.perf_counter() - began) * 1e3)
        brought = set(sys.modules) - before
        print("site-packages" in "".join(str(getattr(sys.modules[name], "__file__", "")) for name in brought))
        print(*{name.partition(".")[0] for name in brought})
        """
    )
    took, from_others, brought = ended.stdout.splitlines()
    assert float(took) < 500  # the bound of 60 ms is measured by benchmarks/sdk_overhead.py
    assert from_others == "False"
    assert not {"http", "ssl", "asyncio", "logging", "inspect", "dataclasses"} & set(brought.split())


def test_every_setting_that_cannot_be_used_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_SDK_STRICT", "0")
    monkeypatch.setattr(faults, "_seen", {})
    chosen = settings({"sample_rate": "many", "queue_max": 0, "colour": "red", "size": 1}, {"DRIFTLINE_TAGS": "none"})
    assert (chosen.sample_rate, chosen.queue_max, chosen.tags) == (1.0, 10_000, {})
    for told in ("init(sample_rate=)", "init(queue_max=)", "DRIFTLINE_TAGS", "'colour', 'size'"):
        assert caplog.text.count(f"{told} cannot be used") + caplog.text.count(f"init() has no {told};") == 1
