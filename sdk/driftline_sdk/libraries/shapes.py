"""What answers of model servers look like on the wire, whichever library asked: chosen by what they hold."""

from __future__ import annotations

import json
from typing import Any, Callable

from driftline_sdk.generation import Generation
from driftline_sdk.libraries import anthropic, google, openai
from driftline_sdk.libraries.stainless import attributes
from driftline_sdk.streams import see

_ASKING = (b'"messages"', b'"prompt"', b'"input"', b'"inputs"', b'"contents"')
_NOT_ASKING = ("/embed", "/rerank", "/moderations", "/tokenize")
_LONGEST_ERROR = 500
_MOST_UNREAD = 1 << 20


def asks(path: str, body: Any) -> bool:
    """Whether a request's body asks a model something: messages, a prompt, inputs or contents as JSON."""
    if not isinstance(body, bytes) or not body[:64].lstrip().startswith(b"{"):
        return False
    return any(word in body for word in _ASKING) and not any(word in path for word in _NOT_ASKING)


def read_question(generation: Generation, path: str, body: bytes) -> None:
    """Fills in what was asked, and the model: from the body, or from a path like `models/NAME:generateContent`."""
    fields = json.loads(body)
    asked = fields.get("messages")
    system = fields.get("system") or fields.get("instructions")
    for name in ("input", "prompt", "inputs", "contents"):
        asked = fields.get(name) if asked is None else asked
    if system:
        rest = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        asked = [{"role": "system", "content": system}, *rest]
    generation.input = asked
    named = path.rpartition("models/")[2].partition(":")[0] if "models/" in path else None
    generation.model = fields.get("model") or named


def read_answer(generation: Generation, status: int, content: bytes) -> None:
    """Fills in the answer; one of no known shape is kept as its text."""
    if status >= 400:
        generation.status = "error"
        generation.error = f"HTTP {status}: {content[:_LONGEST_ERROR].decode('utf-8', 'replace')}"
        return
    try:
        answer = attributes(content)
        if isinstance(answer, list) and answer:
            answer = answer[0]
        for holds, read, _ in SHAPES:
            if holds(answer):
                read(generation, answer)
                return
    except (ValueError, AttributeError, LookupError, TypeError):
        pass
    generation.output = content.decode("utf-8", "replace")


class Events:
    """Reads a streamed body, server-sent events or a JSON value a line, as its bytes go by."""

    def __init__(self, generation: Generation, status: int) -> None:
        self._generation = generation
        self._status = status
        self._rest = b""
        self._unread = b""  # what held no event so far: it may turn out to be one JSON value

    def feed(self, content: bytes) -> None:
        """Reads the lines that these bytes complete."""
        generation = self._generation
        if generation.pieces is None and len(self._unread) < _MOST_UNREAD:
            self._unread += content
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            text = line.strip()
            if text.startswith(b"data:"):
                text = text[5:].strip()
            if text == b"[DONE]":
                generation.status = generation.status or "ok"
            elif text.startswith(b"{"):
                see(generation, _read_event, text)

    def end(self) -> None:
        """Reads what is left when the body is complete, and ends the generation."""
        generation = self._generation
        self.feed(b"\n")
        if self._status >= 400 or (generation.pieces is None and generation.output is None):
            read_answer(generation, self._status, self._unread)
        generation.end()


def _read_event(generation: Generation, text: bytes) -> None:
    try:
        event = attributes(text)
    except ValueError:
        return
    for holds, _, read in SHAPES:
        if holds(event):
            read(generation, event)
            return


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda answer: all(hasattr(answer, name) for name in names)


def _choices(generation: Generation, answer: Any) -> None:
    plain = bool(answer.choices) and hasattr(answer.choices[0], "text")
    (openai.completion_answered if plain else openai.chat_answered)(generation, answer)


def _choices_streamed(generation: Generation, event: Any) -> None:
    choice = event.choices[0] if event.choices else None
    if choice is None or hasattr(choice, "delta"):
        openai.chat_streamed(generation, event)
    elif hasattr(choice, "text"):
        openai.completion_streamed(generation, event)
    # else it is a whole answer, which `Events.end` reads


def _ollama(generation: Generation, answer: Any) -> None:
    generation.model = answer.model
    generation.output = answer.message.content if hasattr(answer, "message") else answer.response
    openai.calls(generation, getattr(getattr(answer, "message", None), "tool_calls", None) or ())
    generation.usage(getattr(answer, "prompt_eval_count", None), getattr(answer, "eval_count", None))


def _ollama_streamed(generation: Generation, event: Any) -> None:
    text = event.message.content if hasattr(event, "message") else event.response
    if text:
        generation.model = event.model
        generation.piece(text)
    called = getattr(getattr(event, "message", None), "tool_calls", None)
    if called:
        generation.first_token()
        openai.calls(generation, called)
    if event.done:
        generation.usage(getattr(event, "prompt_eval_count", None), getattr(event, "eval_count", None))
        generation.status = "ok"


def _tgi(generation: Generation, answer: Any) -> None:
    generation.output = answer.generated_text
    generation.output_tokens = getattr(getattr(answer, "details", None), "generated_tokens", None)


def _tgi_streamed(generation: Generation, event: Any) -> None:
    if not getattr(event.token, "special", False):
        generation.piece(event.token.text)
    if getattr(event, "generated_text", None) is not None:
        generation.output_tokens = getattr(getattr(event, "details", None), "generated_tokens", None)
        generation.status = "ok"


def _is_anthropic(answer: Any) -> bool:
    kind = getattr(answer, "type", "")
    return kind.startswith(("message", "content_block")) or kind == "ping"


def _is_response(answer: Any) -> bool:
    return getattr(answer, "object", "") == "response" or getattr(answer, "type", "").startswith("response.")


Read = Callable[[Generation, Any], object]
SHAPES: tuple[tuple[Callable[[Any], bool], Read, Read], ...] = (
    (_has("choices"), _choices, _choices_streamed),
    (_is_response, openai.response_answered, openai.response_streamed),
    (_is_anthropic, anthropic.answered, anthropic.streamed),
    (_has("candidates"), google.answered, google.streamed),
    (_has("done", "model"), _ollama, _ollama_streamed),
    (_has("token"), _tgi, _tgi_streamed),
    (_has("generated_text"), _tgi, _tgi),
)
