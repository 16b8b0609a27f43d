"""Any endpoint that speaks OpenAI's chat completions: OpenAI, Azure, vLLM, llama.cpp, Ollama, TGI, and more."""

from pydantic.dataclasses import dataclass

from variants.method import STRICT
from variants.runners.chat_client import ChatClient
from variants.runners.endpoint import Endpoint
from variants.runners.local_model import LocalModel


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OpenAIRunner(Endpoint):
    """An endpoint whose `base_url` ends in /v1 for most servers.

    `logprobs` asks for the log-probabilities of the answer, which some servers refuse or ignore.
    """

    logprobs: bool = False

    def open(self, source: LocalModel | None, threads: int | None) -> ChatClient:
        """A client; no request is sent yet.

        Raises:
            BadInput: The key's environment variable is not set.
        """
        return ChatClient(self, self.key())
