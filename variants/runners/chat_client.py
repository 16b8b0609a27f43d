"""Chat completions over HTTP: streamed, retried, bounded, and tolerant of what servers leave out."""

import email.utils
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx

from driftline.protocols import Completion, Messages, Sampling
from variants.canonical import digest
from variants.methods.output_constraint import asked_of_server
from variants.runners.endpoint import Endpoint

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Failed(Exception):
    """This answer cannot be had; the text says why."""


class Busy(Failed):
    """As Failed, but another attempt may succeed, `after_s` from now where the server said so."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass
class Heard:
    """What has come of one answer. `logprobs` stays empty, tokens and reason None, where the server sends none."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    first_at: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    size: int = 0

    def heard_now(self) -> None:
        """Marks when the first text came."""
        self.first_at = self.first_at or time.perf_counter()

    def take(self, body: Mapping[str, Any]) -> None:
        """Adds a streamed piece or a whole answer.

        Raises:
            Failed: It carries an error, or has not the shape of a chat completion.
        """
        if body.get("error"):
            said = body["error"]
            raise Failed(
                f"The endpoint answered with an error: {said.get('message', said) if isinstance(said, dict) else said}"
            )
        usage = body.get("usage")
        if isinstance(usage, Mapping):
            self.input_tokens = _count(usage.get("prompt_tokens"), self.input_tokens)
            self.output_tokens = _count(usage.get("completion_tokens"), self.output_tokens)
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise Failed("The endpoint answered without choices: " + json.dumps(body)[:200])
        for choice in choices[:1]:
            if not isinstance(choice, Mapping):
                raise Failed("The endpoint answered with a choice that is no object.")
            message = choice.get("delta") or choice.get("message") or {}
            text = message.get("content") if isinstance(message, Mapping) else None
            if isinstance(text, str) and text:
                self.heard_now()
                self.pieces.append(text)
            told = choice.get("logprobs")
            for token in (told.get("content") or []) if isinstance(told, Mapping) else []:
                if isinstance(token, Mapping) and isinstance(token.get("logprob"), (int, float)):
                    self.logprobs.append(float(token["logprob"]))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason


class Pace:
    """Lets requests begin at most `per_minute` times a minute, evenly spaced; all at once where it is None."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Returns when the next request may begin."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._gap
        time.sleep(mine - now)


class ChatClient:
    """Generate over an OpenAI-compatible endpoint.

    `latency_ms` is the successful attempt's alone: waits and failed attempts before it are not counted.
    """

    path: ClassVar[str] = "/chat/completions"
    hears: ClassVar[type[Heard]] = Heard

    def __init__(self, config: Endpoint, key: str | None) -> None:
        self._config: Any = config
        headers = {"content-type": "application/json"}
        if key is not None:
            bearer = config.api_key_header.lower() == "authorization"
            headers[config.api_key_header] = f"Bearer {key}" if bearer else key
        limits = httpx.Limits(max_connections=config.concurrency)
        self._http = httpx.Client(headers={**headers, **self.more_headers()}, timeout=config.timeout_s, limits=limits)
        self._url = config.base_url.rstrip("/") + self.path
        self._pace = Pace(config.requests_per_minute)

    def more_headers(self) -> dict[str, str]:
        """Headers of every request beside content type and key."""
        return {}

    @property
    def fingerprint(self) -> str:
        """sha256 of endpoint, model and parameters: all that can be seen from here. The weights cannot."""
        config = self._config
        kind = "openai" if self.path == ChatClient.path else self.path
        return digest([kind, config.base_url, config.model, config.parameters])

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; what fails after all attempts carries the reason in `error`."""
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            return list(pool.map(lambda prompt: self._one(prompt, sampling), prompts))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _one(self, prompt: Messages, sampling: Sampling) -> Completion:
        began = time.perf_counter()
        try:
            request = json.dumps(self.request(prompt, sampling)).encode()
        except (TypeError, ValueError) as wrong:
            return self._failed(f"The prompt cannot be sent as JSON: {wrong}", began)
        for attempt in range(self._config.retries + 1):
            self._pace.wait()
            began = time.perf_counter()
            try:
                return self._completion(self._ask(request, began), began)
            except Busy as busy:
                if attempt == self._config.retries:
                    return self._failed(f"{busy} ({attempt + 1} attempts)", began)
                wait = 0.5 * 2**attempt if busy.after_s is None else busy.after_s
                if wait > self._config.longest_wait_s:
                    return self._failed(f"{busy}; it asks to wait {wait:.0f} s", began)
                time.sleep(wait)
            except Failed as failed:
                return self._failed(str(failed), began)
        return self._failed("not tried", began)

    def request(self, prompt: Messages, sampling: Sampling) -> dict[str, Any]:
        """The body that asks for an answer."""
        request: dict[str, Any] = {
            "model": self._config.model,
            "messages": [dict(message) for message in prompt],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stream": self._config.stream,
        }
        if self._config.stream:
            request["stream_options"] = {"include_usage": True}
        if sampling.stop:
            request["stop"] = list(sampling.stop)
        if self._config.logprobs:
            request["logprobs"] = True
        if sampling.constraint is not None:
            request |= asked_of_server(sampling.constraint)
        return {**request, **self._config.parameters}

    def _ask(self, request: bytes, began: float) -> Heard:
        heard = self.hears()
        try:
            with self._http.stream("POST", self._url, content=request) as answer:
                if answer.status_code != 200:
                    self._refused(answer)
                streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
                for body in self._events(answer, heard, began) if streamed else [self._whole(answer, heard, began)]:
                    heard.take(body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as wrong:
            raise Busy(f"{self._config.base_url} cannot be reached: {wrong}") from wrong
        except httpx.TimeoutException as wrong:
            raise Busy(f"Nothing came from {self._config.base_url} for {self._config.timeout_s:g} s") from wrong
        except httpx.HTTPError as wrong:
            raise Busy(f"The connection to {self._config.base_url} broke: {wrong}") from wrong
        if heard.first_at is None and heard.finish_reason is None:
            raise Failed("The endpoint answered without any text.")
        return heard

    def _refused(self, answer: httpx.Response) -> None:
        reason = f"HTTP {answer.status_code} from {self._url}: "
        for piece in answer.iter_bytes():
            reason += piece[:300].decode(errors="replace")
            break
        if answer.status_code in AGAIN:
            raise Busy(reason, retry_after(answer.headers.get("retry-after")))
        raise Failed(reason)

    def _events(self, answer: httpx.Response, heard: Heard, began: float) -> Iterator[Mapping[str, Any]]:
        """The JSON bodies of a server-sent event stream, to [DONE] or to its end."""
        for line in _lines(self._bounded(answer, heard, began)):
            if not line.startswith(b"data:"):
                continue  # comments, event names, the empty line between events
            content = line[5:].strip()
            if content == b"[DONE]":
                return
            if content:
                yield _object(content)

    def _whole(self, answer: httpx.Response, heard: Heard, began: float) -> Mapping[str, Any]:
        return _object(b"".join(self._bounded(answer, heard, began)))

    def _bounded(self, answer: httpx.Response, heard: Heard, began: float) -> Iterator[bytes]:
        for piece in answer.iter_bytes():
            heard.size += len(piece)
            if heard.size > self._config.max_answer_bytes:
                raise Failed(f"The answer exceeds {self._config.max_answer_bytes} bytes.")
            if time.perf_counter() - began > self._config.deadline_s:
                raise Failed(f"The answer was not complete after {self._config.deadline_s:g} s.")
            yield piece

    def _completion(self, heard: Heard, began: float) -> Completion:
        streamed = self._config.stream and heard.first_at is not None
        mean = sum(heard.logprobs) / len(heard.logprobs) if heard.logprobs else None
        return Completion(
            text="".join(heard.pieces),
            latency_ms=(time.perf_counter() - began) * 1000,
            ttft_ms=((heard.first_at or began) - began) * 1000 if streamed else None,
            input_tokens=heard.input_tokens,
            output_tokens=heard.output_tokens or len(heard.logprobs) or None,
            mean_logprob=mean,
            finish_reason=heard.finish_reason,
        )

    @staticmethod
    def _failed(reason: str, began: float) -> Completion:
        return Completion("", (time.perf_counter() - began) * 1000, error=reason)


def retry_after(said: str | None) -> float | None:
    """Seconds to wait that a Retry-After header asks for (a number or an HTTP date); None where it says nothing usable.

    >>> retry_after("2"), retry_after("soon")
    (2.0, None)
    """
    if not said:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.rstrip(b"\r") for line in whole)
    if rest:
        yield rest


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as wrong:
        raise Failed(f"The endpoint answered with something that is not JSON: {content[:120]!r}") from wrong
    if not isinstance(body, dict):
        raise Failed(f"The endpoint answered with a JSON {type(body).__name__}, not an object.")
    return body


def _count(said: Any, before: int | None) -> int | None:
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else before
