"""What judges that are language models share: how an answer is shown to them, and how their grade is read."""

import re
from collections.abc import Sequence

from driftline.errors import BadInput
from driftline.protocols import Generate, Messages, Sampling

GRADE_TOKENS = 256


def conversation(messages: Messages) -> str:
    """A prompt as the judge reads it."""
    return "\n".join(f"{message.get('role', 'user')}: {message.get('content', '')}" for message in messages)


def section(name: str, text: str) -> str:
    """A quoted text whose end cannot be forged from within: what looks like the end tag is broken up."""
    return f"<{name}>\n{text.replace(f'</{name}', f'< /{name}')}\n</{name}>"


def asked(model: Generate, questions: Sequence[str], repeats: int) -> list[list[str]]:
    """What the judge says to each question, `repeats` times; an error of the judge is an empty saying.

    Once means at temperature 0. Repeats are drawn at temperature 1 with different seeds, so that they can disagree.
    """
    prompts: list[Messages] = [({"role": "user", "content": question},) for question in questions]
    sayings: list[list[str]] = [[] for _ in questions]
    for repeat in range(repeats):
        sampling = Sampling(max_tokens=GRADE_TOKENS, temperature=0.0 if repeats == 1 else 1.0, seed=repeat)
        for said, completion in zip(sayings, model.generate(prompts, sampling) if prompts else [], strict=True):
            said.append("" if completion.error is not None else completion.text)
    return sayings


def grade(saying: str, allowed: Sequence[str]) -> str | None:
    """The grade that a judge gave, None where it gave none or more than one.

    The last "Grade: X" counts; without one, a saying that names exactly one of the allowed grades.

    >>> grade("It is polite. Grade: 4", ["1", "2", "3", "4", "5"])
    '4'
    >>> grade("Somewhere between 3 and 4.", ["1", "2", "3", "4", "5"]) is None
    True
    """
    one = "|".join(map(re.escape, allowed))
    stated = re.findall(rf"grade\W{{0,8}}({one})(?![\w.]*\d)\b", saying, re.IGNORECASE)
    if stated:
        return next(known for known in allowed if known.casefold() == stated[-1].casefold())
    named = set(re.findall(rf"(?<![\w.])({one})(?!\w|\.\d)", saying))
    return named.pop() if len(named) == 1 else None


def checked_repeats(repeats: int) -> int:
    """The number of repeats as it is.

    Raises:
        BadInput: It is below 1.
    """
    if repeats < 1:
        raise BadInput(f"repeats is {repeats}; a judge must be asked at least once.")
    return repeats


def repeat_noise(values: Sequence[float]) -> float | None:
    """The variance of the mean of repeats, estimated from how they differ; None where there are fewer than two.

    >>> repeat_noise([0.0, 1.0])
    0.25
    """
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def agreement(grades: Sequence[object]) -> float:
    """The share of pairs of repeats that gave the same grade, 1 where there are fewer than two."""
    pairs = [(a, b) for place, a in enumerate(grades) for b in grades[place + 1 :]]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0
