"""Every SDK test talks to a real collector on localhost, in strict mode."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from local_collector import Collector, start  # noqa: E402
from local_model import LocalModel  # noqa: E402
from openai_answers import completion, response  # noqa: E402

import driftline_sdk  # noqa: E402
from driftline_sdk import process  # noqa: E402

settings.register_profile("unhurried", deadline=None)  # machines that tests share stall now and then
settings.load_profile("unhurried")


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.close()
    assert server.wrong == []


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_SDK_STRICT", "1")


@pytest.fixture(autouse=True)
def sdk_ends() -> Iterator[None]:
    yield
    if process.active is not None:
        process.active.shutdown(0.5)
    process.active = None


@pytest.fixture
def sdk(collector: Collector, tmp_path: Path) -> Any:
    """The SDK, started against the collector, with a short interval and a spool of its own."""
    start(collector, spool_dir=tmp_path / "spool")
    return driftline_sdk


@pytest.fixture
def model() -> Iterator[LocalModel]:
    """A server that answers as OpenAI's does, until it is told to answer otherwise."""
    server = LocalModel()
    server.answers = {"/chat/completions": completion(content="Hello!"), "/responses": response()}
    yield server
    server.close()
