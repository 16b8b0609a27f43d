"""Coverage-guided fuzzing of everything that reads a request: OTLP in both encodings, records, feedback, inflating.

    python tests/collector/fuzz_decoders.py [FOLDER] [-max_total_time=SECONDS]

Needs the package atheris. FOLDER keeps inputs that reached new code. Whatever is sent, a reader answers or refuses in
words, and what it hands on can be stored by either database: any other exception, and any row that could not, ends it.
"""

import json
import math
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["collector", "driftline.moment", "msgspec"]):
    from collector.body import _decoder
    from collector.http import read_feedback, read_records
    from collector.rows import TEXT_RULES, Privacy
    from collector.sender import Sender
    from collector.signals import READERS
from driftline.errors import DriftlineError

SENDERS = [Sender(1, Privacy(rule)) for rule in TEXT_RULES]


def _otlp(signal: str, as_json: bool) -> Callable[[bytes, Sender], Any]:
    return lambda body, sender: READERS[signal](body, sender, as_json)[0]


def _inflated(encoding: str) -> Callable[[bytes, Sender], None]:
    def read(body: bytes, _sender: Sender) -> None:
        inflate = _decoder(encoding)
        for start in range(0, len(body), 100):
            for part in inflate.feed(body[start : start + 100]):
                assert len(part) <= 2**18
        inflate.close()

    return read


TARGETS: list[Callable[[bytes, Sender], Any]] = [
    *(_otlp(signal, as_json) for signal in READERS for as_json in (False, True)),
    lambda body, sender: read_records(body, sender)[0],
    lambda body, sender: read_feedback(body, sender)[0],
    _inflated("gzip"),
    _inflated("deflate"),
]


def take(given: bytes) -> None:
    """The first byte chooses the reader, the second the project's rule for texts; the rest is the body."""
    if len(given) < 2:
        return
    try:
        batch = TARGETS[given[0] % len(TARGETS)](given[2:], SENDERS[given[1] % len(SENDERS)])
    except DriftlineError:
        return
    for row in () if batch is None else (*batch.rows, *batch.feedback, *batch.messages, *batch.points):
        for name in row.__struct_fields__:
            check(name, getattr(row, name))


def check(name: str, value: Any) -> None:
    """Whether both databases hold the value."""
    if isinstance(value, str):
        value.encode()  # no lone surrogates
        assert "\0" not in value, name
        if name in ("id", "generation_id"):
            assert 0 < len(value) <= 64
    elif isinstance(value, float):
        assert math.isfinite(value), name
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63, name
    elif isinstance(value, dict):
        json.dumps(value, allow_nan=False).encode()
        assert "\\u0000" not in json.dumps(value), name


def seeds() -> Iterable[bytes]:
    """A good request for each reader, from which the fuzzer starts."""
    now = time.time_ns()
    told = [{"key": "gen_ai.completion", "value": {"stringValue": "Berlin"}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": '[{"role": "user", "parts": ["a"]}]'}},
            {"key": "llm.input_messages.0.message.content", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}},
            {"key": "langfuse.observation.usage_details", "value": {"stringValue": '{"input": 3}'}}]  # fmt: skip
    span = {"traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8), "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now), "attributes": told,
            "events": [{"name": "gen_ai.choice", "timeUnixNano": str(now), "attributes": told}]}  # fmt: skip
    event = {"timeUnixNano": str(now), "eventName": "gen_ai.user.message", "traceId": span["traceId"],
             "spanId": span["spanId"], "body": {"kvlistValue": {"values": told[:1]}}, "attributes": told}  # fmt: skip
    point = {"timeUnixNano": str(now), "startTimeUnixNano": str(now), "count": "1", "sum": 1.5, "attributes": told}
    metric = {"name": "gen_ai.client.token.usage", "unit": "{token}",
              "histogram": {"dataPoints": [point], "aggregationTemporality": 1}}  # fmt: skip
    record = {"id": "a", "started_at": now / 1e9, "variant": "v", "input": "Hi", "output": "x", "tags": {"a": 1}}
    feedback = {"generation_id": "a", "name": "stars", "value": 1, "comment": "good"}
    as_json: list[Any] = [
        {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [event]}]}]},
        {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]},
    ]
    for place, body in enumerate(as_json):
        yield bytes([2 * place + 1, 0]) + json.dumps(body).encode()
        yield bytes([2 * place, 1]) + _protobuf(place, body)
    yield b"\6\1" + json.dumps({"records": [record], "client": {"id": "c", "counts": []}}).encode()
    yield b"\7\0" + json.dumps({"feedback": [feedback]}).encode()


def _protobuf(place: int, body: dict[str, Any]) -> bytes:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    kind = (ExportTraceServiceRequest, ExportLogsServiceRequest, ExportMetricsServiceRequest)[place]
    return bytes(ParseDict(body, kind()).SerializeToString())


def main() -> None:
    """Runs until something is found, or as long as was said."""
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(seeds()):
            take(body)
            (Path(folder) / f"seed-{number}").write_bytes(body)
        if not folders:
            (Path(folder) / "found").mkdir()
            folders = [str(Path(folder) / "found")]
        options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
        atheris.Setup([sys.argv[0], *folders, folder, "-max_len=4096", *options], take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
