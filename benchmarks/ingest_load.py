"""What the ingest benchmark sends: OTLP spans of 2.2 kB and the same calls as native records, and a cheap sender."""

import random
import secrets
import socket
import time
from collections.abc import Iterable
from threading import Thread

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

_SENTENCE = (
    "the report says that revenue in region five rose by twelve percent while costs for delivery fell again and "
    "customers ask which plan includes support on weekends please answer in two sentences and name the source"
)
_WORDS = _SENTENCE.split()


def _text(length: int) -> str:
    return " ".join(random.choices(_WORDS, k=length // 5))[:length]


def attributes() -> dict[str, object]:
    """Twenty attributes of one chat call, prompt and answer included."""
    prompt = msgspec.json.encode([{"role": "user", "parts": [{"type": "text", "content": _text(800)}]}])
    answer = msgspec.json.encode([{"role": "assistant", "parts": [{"type": "text", "content": _text(500)}]}])
    return {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 256, "gen_ai.request.top_p": 1.0, "gen_ai.usage.input_tokens": 180,
        "gen_ai.usage.output_tokens": 110, "gen_ai.response.id": "chatcmpl-" + secrets.token_hex(12),
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.conversation.id": "conv-" + secrets.token_hex(4),
        "gen_ai.response.time_to_first_chunk": random.uniform(0.1, 0.5), "server.address": "api.openai.com",
        "server.port": 443, "user.id": f"user-{random.randrange(1000)}", "app.feature": "summary", "app.tenant": "t1",
        "gen_ai.input.messages": prompt.decode(), "gen_ai.output.messages": answer.decode(),
    }  # fmt: skip


def _value(value: object) -> AnyValue:
    made = AnyValue()
    if isinstance(value, list):
        made.array_value.values.extend(map(_value, value))
    else:
        setattr(made, {str: "string_value", int: "int_value", float: "double_value"}[type(value)], value)
    return made


def otlp_body(spans: int) -> bytes:
    """A trace request with fresh ids."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name", value=_value("shop"))
    scope = resource.scope_spans.add()
    for _ in range(spans):
        start = time.time_ns() - random.randrange(10**10)
        span = scope.spans.add(
            trace_id=secrets.token_bytes(16), span_id=secrets.token_bytes(8), name="chat gpt-4o", kind=3,
            start_time_unix_nano=start, end_time_unix_nano=start + random.randrange(10**9),
        )  # fmt: skip
        for key, value in attributes().items():
            span.attributes.add(key=key, value=_value(value))
    return bytes(request.SerializeToString())


def native_body(records: int) -> bytes:
    """A request of native records with fresh ids, of the same content."""
    made = []
    for _ in range(records):
        tags = {"provider": "openai", "finish_reason": "stop", "feature": "summary", "tenant": "t1"}
        made.append({
            "id": secrets.token_hex(16), "started_at": time.time(), "variant": "gpt-4o-q8", "model": "gpt-4o",
            "input": [{"role": "user", "content": _text(800)}], "output": _text(500), "tags": tags,
            "latency_ms": random.uniform(100, 1000), "ttft_ms": random.uniform(10, 100), "input_tokens": 180,
            "output_tokens": 110, "session_id": secrets.token_hex(8), "user_id": f"user-{random.randrange(1000)}",
        })  # fmt: skip
    return msgspec.json.encode({"records": made})


def http_request(path: str, kind: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return answer


def send_all(port: int, requests: Iterable[bytes], connections: int) -> tuple[float, list[float]]:
    """Sends each request once over so many connections; seconds until the last answer, and each request's seconds.

    Raises:
        RuntimeError: An answer was not 200.
    """
    waiting = list(requests)
    took: list[float] = []
    failures: list[bytes] = []

    def work() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while waiting:
                try:
                    request = waiting.pop()
                except IndexError:
                    return
                start = time.perf_counter()
                connection.sendall(request)
                answer = _answer(connection)
                took.append(time.perf_counter() - start)
                if not answer.startswith(b"HTTP/1.1 200"):
                    failures.append(answer)
                    return

    threads = [Thread(target=work) for _ in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0].decode(errors="replace"))
    return time.perf_counter() - start, took
