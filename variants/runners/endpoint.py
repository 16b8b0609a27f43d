"""What every runner of a model behind HTTP may be told: where it is, how fast it may be asked, how long it may take."""

import os
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.method import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Endpoint:
    """`model` at `base_url`, asked `concurrency` requests at a time, streamed.

    The key is read from the environment variable `api_key_env` and never stored; None sends none. `parameters` are
    added to every request as they are. 408, 409, 425, 429 and 5xx are tried again up to `retries` times, waiting as
    long as Retry-After says (an error where that exceeds `longest_wait_s`), else twice as long each time. `timeout_s`
    bounds the silence between two pieces, `deadline_s` a whole answer and `max_answer_bytes` its size, so a server
    that hangs or streams for ever ends in an error. Requests begin evenly spaced, at most `requests_per_minute`. What
    an answer costs comes from the project's price table (`driftline price set MODEL`).
    """

    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    model: Annotated[str, Field(min_length=1)]
    api_key_env: str | None = None
    api_key_header: str = "Authorization"
    stream: bool = True
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    deadline_s: Annotated[float, Field(gt=0)] = 300.0
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    longest_wait_s: Annotated[float, Field(gt=0)] = 60.0
    max_answer_bytes: Annotated[int, Field(ge=1)] = 4_000_000
    takes: ClassVar[str | None] = None

    def key(self) -> str | None:
        """The key in the environment variable `api_key_env`; None where none is named.

        Raises:
            BadInput: The variable is not set.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env)
        if not key:
            raise BadInput(f"The environment variable {self.api_key_env} with the key for {self.base_url} is not set.")
        return key
