"""What a user or the application thinks of an answer."""

from __future__ import annotations

import math
from sys import getsizeof
from typing import Any, Union

from driftline_sdk.faults import shown
from driftline_sdk.generation import ids, short

Value = Union[bool, float, str]


class Feedback:
    """One judgement of one generation; its id makes sending it twice the same as sending it once."""

    __slots__ = ("comment", "generation_id", "id", "name", "value", "weight")

    def __init__(self, generation_id: str, name: str, value: Value, comment: str | None) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"feedback needs a name such as 'thumbs'; got {shown(name)}")
        self.id = ids.new()
        self.generation_id = short(generation_id)
        self.name = name
        self.value = _judged(value)
        self.comment = comment
        self.weight = 512

    def weigh(self) -> int:
        """Sets `weight`, about how many bytes of memory this takes while it waits."""
        self.weight = 512 + getsizeof(self.value) + getsizeof(self.comment)
        return self.weight


def _judged(value: Any) -> Value:
    """The value as the wire has it: numbers of other libraries are numbers, other objects their text.

    Raises:
        TypeError: It is none of what a judgement may be.
    """
    if isinstance(value, (bool, str)):
        return value
    try:
        number: float | None = float(value)
    except Exception:  # noqa: BLE001 - somebody else's object
        number = None
    if value is None or (number is not None and not math.isfinite(number)):
        raise TypeError(f"feedback takes a finite number, a boolean or a text; got {shown(value)}")
    return str(value) if number is None else round(number, 9)
