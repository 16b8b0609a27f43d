"""Is the answer JSON?"""

import json
import re
from typing import Any, NoReturn

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each

_FENCED = re.compile(r"```[\w-]*\s*\n(.*?)\n?\s*```", re.DOTALL)


def json_valid(fenced: bool = True) -> Score:
    """1 where the whole answer is one JSON value as of RFC 8259, 0 elsewhere, with the place of the first mistake.

    Args:
        fenced: An answer that is nothing but a Markdown code block is taken as what stands in it.
    """

    def judge(answered: Answered) -> Scored:
        try:
            parsed(answered.text, fenced)
        except ValueError as error:
            return Scored(0.0, because=str(error))
        return Scored(1.0)

    return Each("json_valid", judge)


def parsed(text: str, fenced: bool = True) -> Any:
    """The JSON value that a text is.

    Raises:
        ValueError: It is none; says where.
    """
    inner = _FENCED.fullmatch(text.strip()) if fenced else None
    try:
        return _DECODER.decode(inner[1] if inner else text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("no JSON that can be read: nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"no JSON: {constant} is not allowed")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
