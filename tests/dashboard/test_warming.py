"""A process asks itself first, so that its first reader waits for nothing that is made once; or serves all the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.warming import PATHS, warm_up


def recorded(app: ASGIApp, statuses: dict[str, int]) -> ASGIApp:
    """The application, with the status of each path written down."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses[scope["path"]] = message["status"]
            await send(message)

        await app(scope, receive, heard)

    return asked


def test_what_is_asked_is_answered_and_not_refused(seeded: Any, app: FastAPI) -> None:
    statuses: dict[str, int] = {}
    warm_up(recorded(app, statuses))
    assert statuses == dict.fromkeys(PATHS, 200)


def test_a_page_that_fails_is_told_and_keeps_nothing_from_being_served(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("no such column")

    warm_up(broken)
    assert "A page that was asked for at the start failed." in caplog.text
    assert "no such column" in caplog.text


def test_the_libraries_of_sketches_are_there_before_the_first_reader(data_dir: Path) -> None:
    script = (
        "import sys; from driftline.cli.web import application; from driftline.store.upgrade import upgrade; upgrade();"
        "app = application(collector=False, dashboard=True); assert 'datasketches' not in sys.modules;"
        "from dashboard.warming import warm_up; warm_up(app); assert 'datasketches' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
