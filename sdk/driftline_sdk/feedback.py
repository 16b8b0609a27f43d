"""What a user or the application thinks of an answer."""

from __future__ import annotations

from sys import getsizeof
from typing import Union

from driftline_sdk.generation import ids, short

Value = Union[bool, float, str]


class Feedback:
    """One judgement of one generation; its id makes sending it twice the same as sending it once."""

    __slots__ = ("comment", "generation_id", "id", "name", "value", "weight")

    def __init__(self, generation_id: str, name: str, value: Value, comment: str | None) -> None:
        self.id = ids.new()
        self.generation_id = short(generation_id)
        self.name = name
        self.value = value
        self.comment = comment
        self.weight = 512

    def weigh(self) -> int:
        """Sets `weight`, about how many bytes of memory this takes while it waits."""
        self.weight = 512 + getsizeof(self.value) + getsizeof(self.comment)
        return self.weight
