"""A real HTTP server that speaks OpenAI's chat completions and responses, whole and as server-sent events."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

MODEL = "gpt-4o-2026-01-01"
ANSWER = "Berlin is the capital."
WAIT_S = 0.3  # before the first content of a stream, and again in its middle
_PIECES = (ANSWER[:9], ANSWER[9:])
_USAGE = {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26}
_SPENT = {
    "input_tokens": 21, "output_tokens": 5, "total_tokens": 26, "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip

_ARGUMENTS = '{"q":"Berlin"}'
CALLED = f"[tool call find({_ARGUMENTS})]"  # what an application is answered first that offers a tool


def _calls(asked: dict[str, Any]) -> bool:
    given = asked.get("messages") or asked["input"]
    answered = isinstance(given, list) and any(m.get("role") == "tool" or "output" in m for m in given)
    return bool(asked.get("tools")) and not answered


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
    if _calls(asked):
        call = {"id": "call-1", "type": "function", "function": {"name": "find", "arguments": _ARGUMENTS}}
        choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "usage": _USAGE,
    }


def _chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, **more}


def _chunks(asked: dict[str, Any]) -> Iterator[Any]:
    time.sleep(WAIT_S)
    if _calls(asked):
        function = {"name": "find", "arguments": _ARGUMENTS[:4]}
        yield _chunk({"role": "assistant", "tool_calls": [{"index": 0, "id": "call-1", "function": function}]})
        yield _chunk({"tool_calls": [{"index": 0, "function": {"arguments": _ARGUMENTS[4:]}}]})
    else:
        yield _chunk({"role": "assistant", "content": _PIECES[0]})
        time.sleep(WAIT_S)
        yield _chunk({"content": _PIECES[1]})
    yield _chunk({}, "stop")
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield _chunk(None, usage=_USAGE)


def _response(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    message = {"id": "m-1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    if _calls(asked):
        message = {"id": "f-1", "type": "function_call", "call_id": "call-1", "name": "find", "arguments": _ARGUMENTS}
        message["status"] = "completed"
    shared = {"id": f"r-{id(asked)}", "object": "response", "created_at": 1, "model": MODEL, "status": "completed"}
    settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {**shared, **settings, "output": [message], "usage": _SPENT, **more}


def _events(asked: dict[str, Any]) -> Iterator[Any]:
    yield {"type": "response.created", "response": _response(asked, status="in_progress", output=[], usage=None)}
    where = {"item_id": "m-1", "output_index": 0, "content_index": 0, "logprobs": []}
    whole = _response(asked)
    if _calls(asked):
        time.sleep(WAIT_S)
        (call,), at = whole["output"], {"item_id": "f-1", "output_index": 0}
        yield {"type": "response.output_item.added", "output_index": 0, "item": call | {"arguments": ""}}
        yield {"type": "response.function_call_arguments.delta", "delta": _ARGUMENTS, **at}
        yield {"type": "response.function_call_arguments.done", "arguments": _ARGUMENTS, "name": "find", **at}
        yield {"type": "response.output_item.done", "output_index": 0, "item": call}
    else:
        for piece in _PIECES:
            time.sleep(WAIT_S)
            yield {"type": "response.output_text.delta", "delta": piece, **where}
    yield {"type": "response.completed", "response": whole}


class LocalOpenAI:
    """Serves until closed; `url` is what clients take as their base URL."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat = self.path.endswith("/chat/completions")
                if asked.get("stream"):
                    self.stream(_chunks(asked) if chat else _events(asked))
                    return
                body = json.dumps(_completion(asked) if chat else _response(asked)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self, events: Iterator[Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for number, event in enumerate(events):
                    named = f"event: {event['type']}\n" if "type" in event else ""
                    told = {"sequence_number": number, **event} if named else event
                    self.send(f"{named}data: {json.dumps(told)}\n\n")
                self.send("data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")

            def send(self, text: str) -> None:
                self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
