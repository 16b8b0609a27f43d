"""Anthropic's messages API, and servers that speak it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.protocols import Messages, Sampling
from variants.method import STRICT
from variants.runners.chat_client import ChatClient, Failed, Heard
from variants.runners.endpoint import Endpoint
from variants.runners.local_model import LocalModel

STOPS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AnthropicRunner(Endpoint):
    """An endpoint of the messages API.

    System messages become the request's `system`. The API takes no seed and gives no log-probabilities; output
    constraints are checked, not held while decoding.
    """

    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")] = "https://api.anthropic.com/v1"
    api_key_env: str | None = "ANTHROPIC_API_KEY"
    api_key_header: str = "x-api-key"
    api_version: str = "2023-06-01"

    def open(self, source: LocalModel | None, threads: int | None) -> "AnthropicClient":
        """A client; no request is sent yet.

        Raises:
            BadInput: The key's environment variable is not set.
        """
        return AnthropicClient(self, self.key())


class HeardMessage(Heard):
    """What has come of one answer, from the events of a stream or from a whole message."""

    def take(self, body: Mapping[str, Any]) -> None:
        """Adds an event or a whole message.

        Raises:
            Failed: It carries an error, or is nothing that the API sends.
        """
        kind = body.get("type")
        if kind == "error":
            said = body.get("error")
            raise Failed(f"The endpoint answered with an error: {said.get('message', said) if said else body}")
        if kind == "message_start":
            self._usage(_object(_object(body, "message"), "usage"))
        elif kind == "content_block_delta":
            self._add(_object(body, "delta").get("text"))
        elif kind == "message_delta":
            self._usage(_object(body, "usage"))
            self._stopped(_object(body, "delta").get("stop_reason"))
        elif kind == "message":
            for block in body.get("content") or []:
                self._add(block.get("text") if isinstance(block, Mapping) else None)
            self._usage(_object(body, "usage"))
            self._stopped(body.get("stop_reason"))
        elif not isinstance(kind, str):
            raise Failed("The endpoint answered with something that is no message: " + repr(dict(body))[:200])

    def _add(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.heard_now()
            self.pieces.append(text)

    def _usage(self, usage: Mapping[str, Any]) -> None:
        counted = [usage.get(key) for key in ("input_tokens", "output_tokens")]
        self.input_tokens = counted[0] if isinstance(counted[0], int) else self.input_tokens
        self.output_tokens = counted[1] if isinstance(counted[1], int) else self.output_tokens

    def _stopped(self, reason: Any) -> None:
        if isinstance(reason, str):
            self.finish_reason = STOPS.get(reason, reason)


def _object(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = body.get(key)
    return found if isinstance(found, Mapping) else {}


class AnthropicClient(ChatClient):
    """Generate over the messages API."""

    path = "/messages"
    hears = HeardMessage

    def more_headers(self) -> dict[str, str]:
        """The version of the API that is spoken."""
        return {"anthropic-version": self._config.api_version}

    def request(self, prompt: Messages, sampling: Sampling) -> dict[str, Any]:
        """The body that asks for an answer."""
        system = "\n\n".join(m["content"] for m in prompt if m["role"] == "system")
        request: dict[str, Any] = {
            "model": self._config.model,
            "messages": [dict(message) for message in prompt if message["role"] != "system"],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "stream": self._config.stream,
        }
        if sampling.top_p < 1:
            request["top_p"] = sampling.top_p
        if system:
            request["system"] = system
        if sampling.stop:
            request["stop_sequences"] = list(sampling.stop)
        return {**request, **self._config.parameters}
