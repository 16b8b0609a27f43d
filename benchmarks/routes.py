"""How long an app waits to hear which variant to use: from the server's memory, and from the SDK's.

Reference: GET /healthz of the same server over the same kept-alive connection, which answers a constant.
Run: `python benchmarks/routes.py`. Prints one line per way of asking; the ratio is of medians, to the reference.
"""

import http.client
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable

import driftline_sdk

CALLS = 2000


def timed(ask: Callable[[], object], calls: int = CALLS) -> list[float]:
    """Milliseconds of each call."""
    took = []
    for _ in range(calls):
        started = time.perf_counter()
        ask()
        took.append((time.perf_counter() - started) * 1e3)
    return took


def main() -> None:
    """Serves, asks, prints."""
    os.environ["DRIFTLINE_DATA_DIR"] = tempfile.mkdtemp(prefix="driftline-routes-")
    import uvicorn

    from driftline.acts.variants import declare, promote
    from driftline.cli.web import application
    from driftline.store.engine import writing
    from driftline.store.projects import ensure_project
    from driftline.store.upgrade import upgrade

    upgrade()
    with writing() as session:
        project = ensure_project(session).id
        spec = {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []}
        promote(session, project, "support", declare(session, project, "int8", spec, "bench"), "bench", "")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    app = application(collector=False, dashboard=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def get(path: str, **headers: str) -> tuple[int, str | None]:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("etag")

    _, etag = get("/api/routes/support")
    driftline_sdk.init(endpoint=f"http://127.0.0.1:{port}", spool_dir="")
    assert driftline_sdk.route("support", wait_s=10.0) == "int8"
    ways = {
        "GET /healthz (reference)": lambda: get("/healthz"),
        "GET /api/routes/support": lambda: get("/api/routes/support?key=session-1"),
        "  with If-None-Match": lambda: get("/api/routes/support", **{"If-None-Match": etag or ""}),
        "driftline_sdk.route()": lambda: driftline_sdk.route("support", session_id="session-1"),
    }
    for ask in ways.values():
        timed(ask, 100)
    reference = 0.0
    for name, ask in ways.items():
        took = sorted(timed(ask))
        median = statistics.median(took)
        reference = reference or median
        tail = took[int(0.99 * len(took))]
        print(f"{name:28} median {median:.4f} ms, p99 {tail:.4f} ms, ratio {median / reference:.4f}")
    driftline_sdk.shutdown(0.1)
    server.should_exit = True


if __name__ == "__main__":
    main()
