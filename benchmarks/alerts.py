"""What being told costs: from a record's or a drift's commit to the webhook, many alerts against many silences.

`python -m benchmarks.alerts` starts a whole Driftline with its default schedules in a folder of its own, and a webhook
on this machine. References in the same run: a bare POST to that webhook, and trying every silence on every alert.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.detection_row import Row

ROUNDS = 9
DRIFTS, BLOCK_S, REFERENCE = 7, 1.0, 120  # routes that drift, seconds of their monitors' blocks, calls before
PAUSE_S = 11.0  # a channel gets six messages a minute, so that a storm is one
ALERTS, SILENCES = 10_000, 100
HANGING = 3


class Receiver:
    """A webhook that notes when each alert came."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                now, body = time.monotonic(), self.rfile.read(int(self.headers["content-length"]))
                if body.startswith(b"{") and b"specversion" in body:
                    data = json.loads(body)["data"]
                    for text in (data["labels"].get("route", ""), *(one["title"] for one in data["alerts"])):
                        outer.came.setdefault(text, now)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/"


def post(url: str, document: Any) -> float:
    """POSTs JSON; seconds until the answer."""
    began = time.monotonic()
    request = urllib.request.Request(url, json.dumps(document).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
    return time.monotonic() - began


def record(route: str, tokens: int, **fields: Any) -> dict[str, Any]:
    """A call of a route that took so many tokens."""
    return {"id": f"{route}-{time.time_ns()}", "started_at": time.time(), "variant": "v", "output": "x",
            "output_tokens": tokens, "tags": {"route": route}, **fields}  # fmt: skip


def fast_path(receiver: Receiver) -> list[Row]:
    """A budget of tokens per route; one record of each route goes over it. From its 2xx to the webhook."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(HANGING)]  # accept nothing, answer nothing
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "DRIFTLINE_DATA_DIR": folder,
            "DRIFTLINE_PORT": str(port),
            "DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS": "1",
        }
        set_up(receiver.url, [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in silent])
        with Path(folder, "up.log").open("wb") as log:
            up = subprocess.Popen([sys.executable, "-m", "driftline", "up"], stdout=log, stderr=log)
        try:
            return measure(receiver, f"http://127.0.0.1:{port}")
        finally:
            up.terminate()
            up.wait(30)


def set_up(url: str, hanging: list[str]) -> None:
    """A budget rule that tells the webhook, and hanging channels that it tells as well."""
    from driftline.acts.alerts import add_channel, add_rule
    from driftline.acts.monitors import add as add_monitor
    from driftline.store.engine import writing
    from driftline.store.projects import ensure_project
    from driftline.store.upgrade import upgrade

    upgrade()
    with writing() as session:
        project = ensure_project(session)
        names = [f"hangs-{place}" for place in range(len(hanging))]
        for name, address in zip([*names, "works"], [*hanging, url], strict=True):
            add_channel(session, project.id, name, "webhook", {"url": address}, "bench")
        add_rule(session, project.id, "works", "tokens", "bench", channels=["works"], group_by=["route"],
                 condition={"threshold": 1000.0}, matchers={"route": "~fast-.*"})  # fmt: skip
        add_rule(session, project.id, "all", "tokens", "bench", channels=[*names, "works"], group_by=["route"],
                 condition={"threshold": 1000.0}, matchers={"route": "~slow-.*"})  # fmt: skip
        add_rule(session, project.id, "drift", "drift", "bench", channels=["works"], group_by=["route"])
        for number in range(DRIFTS):
            route = f"drift-{number}"
            params = {"block_s": BLOCK_S, "reference_items": REFERENCE, "reference_s": 0.0, "min_block_items": 1}
            add_monitor(session, project.id, f"{route}/errors", "errors", "bench", route=route, params=params)


def measure(receiver: Receiver, address: str) -> list[Row]:
    """Seconds from acknowledgement to arrival, without and with hanging channels."""
    deadline = time.monotonic() + 90
    while True:
        try:
            post(f"{address}/v1/records", {"records": [record("warm", 1)]})
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    time.sleep(10)
    bare = statistics.median(post(receiver.url, {}) for _ in range(20))
    rows = [drift_path(receiver, address, bare)]
    for kind, rounds, said in (("fast", ROUNDS, ""), ("slow", 3, f", while {HANGING} other channels hang")):
        took = []
        for number in range(rounds):
            route = f"{kind}-{number}"
            post(f"{address}/v1/records", {"records": [record(route, 2000)]})
            committed = time.monotonic()
            while route not in receiver.came and time.monotonic() < committed + 60:
                time.sleep(0.01)
            took.append(receiver.came.get(route, committed + 60) - committed)
            time.sleep(max(0.0, PAUSE_S - took[-1]))
        middle = statistics.median(took)
        rows.append(
            Row(
                f"commit of the crossing record to the webhook{said}, median of {rounds}",
                f"{middle:.2f} s (worst {max(took):.2f} s), {middle / bare:.0f} bare POSTs", "≤ 5 s", middle <= 5,
            )
        )  # fmt: skip
    return rows


def drift_path(receiver: Receiver, address: str, bare: float) -> Row:
    """Seconds from the commit of the call that makes a monitor alarm to the webhook, explanation included."""
    from sqlmodel import col, func, select

    from driftline.store.engine import reading
    from driftline.store.tables import Generation, Monitor, Reading

    def crossed(route: str) -> int:
        """When the last call of the block that crossed the line was committed."""
        with reading() as session:
            end = session.exec(
                select(func.min(Reading.block_end))
                .join(Monitor, col(Monitor.id) == Reading.monitor_id)
                .where(Monitor.route == route, Reading.alarmed)
            ).one()
            of_block = select(func.max(Generation.received_at)).where(Generation.route == route)
            return session.exec(of_block.where(Generation.started_at < end)).one()

    def watching() -> int:
        with reading() as session:
            ours = select(func.count()).select_from(Monitor).where(col(Monitor.name).startswith("drift-"))
            return session.exec(ours.where(Monitor.status == "watching")).one()

    for number in range(DRIFTS):
        post(f"{address}/v1/records", {"records": [record(f"drift-{number}", 1) for _ in range(REFERENCE)]})
    deadline = time.monotonic() + 90
    while watching() < DRIFTS:
        assert time.monotonic() < deadline, "the references were not frozen"
        time.sleep(0.5)
    took = []
    for number in range(DRIFTS):
        route = f"drift-{number}"
        began = time.monotonic()
        while route not in receiver.came and time.monotonic() < began + 60:
            failed = [record(route, 1, status="error", error="500") for _ in range(20)]
            post(f"{address}/v1/records", {"records": failed})
            time.sleep(BLOCK_S / 4)
        came_us = (time.time() - time.monotonic() + receiver.came.get(route, began + 60)) * 1e6
        took.append((came_us - crossed(route)) / 1e6)
        time.sleep(max(0.0, began + PAUSE_S - time.monotonic()))
    middle = statistics.median(took)
    return Row(
        f"commit of the call that makes a drift to the webhook, blocks of {BLOCK_S:g} s, median of {DRIFTS}",
        f"{middle:.2f} s (worst {max(took):.2f} s), {middle / bare:.0f} bare POSTs", "≤ 5 s", middle <= 5,
    )  # fmt: skip


def many_silences() -> Row:
    """Ten thousand alerts against a hundred silences, indexed, and every one tried on every other."""
    import random

    from driftline.acts.matching import matches
    from driftline.store.tables import Silence
    from scheduler.muting import Muting

    rng = random.Random(1)
    rows = [Silence(project_id=1, matchers=wanted(rng), until=1, created_by="b", created_at=0) for _ in range(SILENCES)]
    alerts = [{"on": "drift", "route": f"r{rng.randrange(500)}", "signal": rng.choice(["quality", "errors", "latency"]),
               "variant": f"v{rng.randrange(50)}", "monitor": f"m{n}"} for n in range(ALERTS)]  # fmt: skip
    began = time.perf_counter()
    muting = Muting(rows)
    muted = [muting.silence_of(labels) is not None for labels in alerts]
    indexed = time.perf_counter() - began
    began = time.perf_counter()
    plain = [any(matches(labels, row.matchers) for row in rows) for labels in alerts]
    tried = time.perf_counter() - began
    assert muted == plain
    figure = f"{indexed:.2f} s, {sum(muted)} muted; {tried / indexed:.1f} times as fast as trying each"
    return Row(f"{ALERTS} alerts against {SILENCES} silences", figure, "≤ 1 s", indexed <= 1)


def wanted(rng: Any) -> dict[str, str]:
    """Matchers as people write them: mostly plain, some patterns."""
    several = {"route": f"r{rng.randrange(500)}", "variant": f"v{rng.randrange(50)}"}
    if rng.random() < 0.2:
        several["route"] = f"~r{rng.randrange(50)}.*"
    if rng.random() < 0.3:
        several["signal"] = rng.choice(["quality", "!quality", "~quality|errors"])
    return several


def main() -> int:
    """Prints every figure; 1 where one does not hold."""
    rows = [many_silences(), *fast_path(Receiver())]
    for row in rows:
        print(row.line(), flush=True)
    return 0 if all(row.held in (None, True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
