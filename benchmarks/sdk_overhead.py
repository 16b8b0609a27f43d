"""What the SDK costs its host: time in the caller's thread, pauses of other threads, import, memory.

    python benchmarks/sdk_overhead.py [--calls 20000]

Every call carries 20 attributes and a prompt of 600 characters, and is delivered to a collector in another process. The
OpenTelemetry SDK (batch processor, an exporter that discards) does the same in turns of 500 calls, so that a machine
that changes its speed changes it for both. What is called does nothing: times are those of the whole call. The 99th
percentile is given over all calls, and as the median of those of the turns, which a busy neighbour does not change.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SDK = Path(__file__).resolve().parents[1] / "sdk"
sys.path.insert(0, str(SDK))

import driftline_sdk  # noqa: E402
from driftline_sdk.calls import watched  # noqa: E402
from driftline_sdk.libraries.openai import chat  # noqa: E402

TURN = 500
PROMPT = "Summarize the following report in three sentences, and name the figures. " * 9
PROMPT = PROMPT[:600]
ATTRIBUTES = {f"attribute.{number}": f"value {number}" for number in range(20)}
MEDIAN_US, P99_US, IMPORT_MS = 10.0, 60.0, 60.0

COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"accepted": 0, "duplicates": 0, "rejected": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def by_generation() -> None:
    """One call by hand; the attributes come from the context, as those of a request do."""
    with driftline_sdk.generation(PROMPT, model="m") as g:
        g.output = "done"
        g.usage(100, 10)


def by_watch() -> Callable[[], None]:
    """One call of a watched library that does nothing but hand out a chat completion it has at hand."""
    message = SimpleNamespace(content="done", tool_calls=None)
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    answer = SimpleNamespace(model="m", choices=[SimpleNamespace(message=message)], usage=usage)
    call = watched(lambda **_: answer, lambda _, kwargs: chat(kwargs))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    return lambda: call(messages=messages, model="m")


def by_opentelemetry() -> Callable[[], None]:
    """The same as a span of the OpenTelemetry SDK."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discarding(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discarding(), max_queue_size=100_000))
    tracer = provider.get_tracer("benchmark")

    def call() -> None:
        with tracer.start_as_current_span("chat m", attributes=ATTRIBUTES) as span:
            span.set_attribute("gen_ai.input.messages", PROMPT)
            span.set_attribute("gen_ai.output.messages", "done")
            span.set_attribute("gen_ai.usage.input_tokens", 100)
            span.set_attribute("gen_ai.usage.output_tokens", 10)

    return call


def timed(ways: dict[str, Callable[[], None]], calls: int) -> dict[str, list[float]]:
    """Microseconds of each call, the ways taking turns."""
    clock = time.perf_counter_ns
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(calls // TURN):
        for name, call in ways.items():
            times = taken[name]
            for _ in range(TURN):
                before = clock()
                call()
                times.append((clock() - before) / 1e3)
            time.sleep(0.05)
    return taken


def turns(times: list[float]) -> list[list[float]]:
    """The calls of each turn."""
    return [times[start : start + TURN] for start in range(0, len(times), TURN)]


def p99(times: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


def pauses(work: Callable[[], None], seconds: float = 3.0) -> list[float]:
    """How late, in microseconds, another thread wakes from sleeps of a millisecond while the work is done and sent."""
    late: list[float] = []
    stop = threading.Event()

    def other_thread() -> None:
        while not stop.is_set():
            before = time.perf_counter()
            time.sleep(0.001)
            late.append((time.perf_counter() - before - 0.001) * 1e6)

    thread = threading.Thread(target=other_thread)
    thread.start()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        work()
        time.sleep(0.05)
    stop.set()
    thread.join()
    return late


def burst(call: Callable[[], None]) -> Callable[[], None]:
    """A hundred calls in a row: 2000 a second, with the pauses between."""

    def calls() -> None:
        for _ in range(100):
            call()

    return calls


def import_ms(name: str) -> float:
    """The fastest of nine imports, each in a new interpreter, of a library that is compiled already."""
    program = f"import sys, time; sys.path.insert(0, {str(SDK)!r}); t = time.perf_counter(); import {name}"
    command = [sys.executable, "-c", program + "; print((time.perf_counter() - t) * 1e3)"]
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(9))


def full_queue_mib() -> tuple[int, float]:
    """Records that a queue of the default bounds takes while nothing is sent, and the memory they occupy, MiB."""
    driftline_sdk.init(endpoint="http://127.0.0.1:9", spool_dir="", interval_s=3600)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(30_000):
        text = f"{number:010d}" + "x" * 6_000
        driftline_sdk.record(input=text, output="a", tags={**ATTRIBUTES, "number": str(number)})
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return driftline_sdk.stats()["queued"], (after - before) / 1024


def main() -> int:
    """Prints the figures; exit code 1 when one of the bounds does not hold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=20_000)
    calls = options.parse_args().calls
    collector = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True)
    assert collector.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{int(collector.stdout.readline())}"
        driftline_sdk.init(endpoint=endpoint, variant="v", route="r", spool_dir="")
        ways = {"generation()": by_generation, "watch()": by_watch(), "OpenTelemetry": by_opentelemetry()}
        timed(ways, 1_000)  # the first calls start threads and fill caches
        with driftline_sdk.context(tags=ATTRIBUTES):
            taken = timed(ways, calls)
        idle, ours = pauses(lambda: None), pauses(burst(by_generation))
        theirs = pauses(burst(ways["OpenTelemetry"]))
        delivered = driftline_sdk.flush(30)
        stats = driftline_sdk.stats()
    finally:
        collector.kill()
        collector.wait()

    medians = {name: statistics.median(times) for name, times in taken.items()}
    p99s = {name: statistics.median(p99(turn) for turn in turns(times)) for name, times in taken.items()}
    print(f"{'per call, in the caller':28}{'median µs':>12}{'p99 µs':>12}{'of all µs':>12}{'OpenTelemetry / this':>24}")
    for name, times in taken.items():
        ratio = medians["OpenTelemetry"] / medians[name]
        print(f"{name:28}{medians[name]:12.1f}{p99s[name]:12.1f}{p99(times):12.1f}{ratio:24.1f}")
    print(f"\n{'another thread wakes late':28}{'median µs':>12}{'p99 µs':>12}{'longest µs':>24}")
    for name, late in (("nothing recorded", idle), ("2000 generations/s", ours), ("OpenTelemetry, discarding", theirs)):
        print(f"{name:28}{statistics.median(late):12.0f}{p99(late):12.0f}{max(late):24.0f}")
    driftline_sdk.shutdown(1)
    queued, mib = full_queue_mib()
    imported = import_ms("driftline_sdk")
    ratio = import_ms("opentelemetry.sdk.trace.export") / imported
    print(f"\nrecorded {stats['recorded']}, delivered {stats['sent']}, dropped {json.dumps(stats['dropped'])}")
    print(f"import {imported:.1f} ms (OpenTelemetry's SDK takes {ratio:.1f} times as long)")
    print(f"a full queue holds {queued} records of 6 kB in {mib:.0f} MiB (bound: 10000 records, 64 MiB of payload)")

    own = ("generation()", "watch()")
    holds = delivered and stats["recorded"] == stats["sent"] and imported <= IMPORT_MS
    holds = holds and all(medians[name] <= MEDIAN_US and p99s[name] <= P99_US for name in own)
    print(f"\nmedian ≤ {MEDIAN_US:.0f} µs, p99 ≤ {P99_US:.0f} µs, import ≤ {IMPORT_MS:.0f} ms, all delivered: {holds}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
