"""`/openapi.json` against what the composed application does: every operation, fuzzed from its own description."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn

pytest.importorskip("schemathesis", reason="needs the package schemathesis")


@pytest.fixture(scope="module")
def served(seeded_store: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of everything `driftline up` serves, over a store with something in every table, and a key."""
    from driftline.access import forget_callers
    from driftline.cli.web import application
    from driftline.store.engine import engine, writing
    from driftline.store.projects import create_key, ensure_project
    from tests.conftest import read_anew

    folder = tmp_path_factory.mktemp("served")
    shutil.copy(seeded_store[0] / "driftline.db", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRIFTLINE_DATA_DIR", str(folder))
        read_anew()
        with writing() as session:
            key = create_key(session, ensure_project(session), "fuzz", ["admin"], "test")
        forget_callers()
        app = application(collector=True, dashboard=True)
        app.openapi()  # takes a while the first time, and schemathesis waits ten seconds for it
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", key
        server.should_exit = True
        thread.join()
        engine().dispose()
    read_anew()
    forget_callers()


def test_schemathesis_finds_nothing(served, tmp_path):
    found = fuzz(served, tmp_path, "--phases", "examples,coverage", "--max-time", "60")
    assert found.returncode == 0, found.stdout[-20_000:]


@pytest.mark.slow
def test_schemathesis_finds_nothing_when_it_looks_longer(served, tmp_path):
    found = fuzz(served, tmp_path, "--phases", "fuzzing,stateful", "--max-examples", "40", "--max-time", "400")
    assert found.returncode == 0, found.stdout[-20_000:]


CONFIG = """
# What a cursor, a moment or a recipe must be cannot be told in JSON Schema; 422 says in words what is wrong with one.
[checks.positive_data_acceptance]
enabled = false

# One bad item never fails its batch: the answer is a success that says which were refused, and why.
[[operations]]
include-path-regex = "^/v1/(records|feedback)$"
[operations.checks.negative_data_rejection]
expected-statuses = [200, 400, 401, 403, 413, 422]

# Too many scores are too large a request.
[[operations]]
include-path-regex = "^/api/public/(scores|ingestion)$"
[operations.checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 413, 422]

# These words stand where the key of a row does: another method is told that they are no number.
[[operations]]
include-path-regex = "^/api/(rules/preview|monitors/backtest)$"
[operations.checks.unsupported_method]
enabled = false

# Protocol Buffers have no schema in OpenAPI; bytes that are a valid export are taken.
[[operations]]
include-path-regex = "^/v1/(traces|logs|metrics)$"
[operations.checks.negative_data_rejection]
expected-statuses = [200, 400, 401, 403, 413, 415]
"""


def fuzz(served: tuple[str, str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs schemathesis with all its checks and a seed, so that it tries the same in every run."""
    address, key = served
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json", "--seed", "1"]
    command += ["--request-timeout", "60"]
    command += ["--header", f"Authorization: Bearer {key}"]
    return subprocess.run(
        [*command, *options, "--continue-on-failure"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
