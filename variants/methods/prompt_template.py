"""Another way of asking the same model: instructions, examples, a frame around the question."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Generate, Message, Messages
from variants.around import Redressed, redress
from variants.method import STRICT, Beside, Stage


@dataclass(frozen=True, config=STRICT)
class PromptTemplate:
    """The prompt with a `system` message, few-shot `shots` before it, and the last user message set into `user`.

    `system` replaces a system message that is already there. `shots` are (question, answer) pairs. `user` must
    contain `{prompt}`, which is replaced by the user's text (nothing else in braces is touched); shots go through
    it too.
    """

    system: str | None = None
    shots: tuple[tuple[str, str], ...] = ()
    user: str = "{prompt}"
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if "{prompt}" not in self.user:
            raise ValueError("user must contain {prompt}, the place of the user's text")

    def dress(self, messages: Messages) -> Messages:
        """The messages that the model is asked instead of `messages`."""
        if not messages:
            raise BadInput("A prompt needs at least one message.")
        asked = list(messages)
        system: Sequence[Message] = [m for m in asked if m.get("role") == "system"]
        if self.system is not None:
            system = [{"role": "system", "content": self.system}]
        turns = [m for m in asked if m.get("role") != "system"]
        for place in range(len(turns) - 1, -1, -1):
            if turns[place].get("role") == "user":
                turns[place] = {**turns[place], "content": self._frame(turns[place]["content"])}
                break
        shots: list[Mapping[str, str]] = []
        for question, answer in self.shots:
            shots += [{"role": "user", "content": self._frame(question)}, {"role": "assistant", "content": answer}]
        return (*system, *shots, *turns)

    def wrap(self, answering: Generate, beside: Beside) -> Redressed:
        """`answering`, asked with the template."""
        return redress(answering, self.dress, self)

    def _frame(self, text: str) -> str:
        return self.user.replace("{prompt}", text)
