"""Answers that must have a form: a regular expression, a JSON schema, one of some choices."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import JsonValue
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Completion, Constraint, Generate, Messages, Sampling
from variants.around import Wrapped, weighing
from variants.loading import INSTALL
from variants.lookup import need
from variants.method import STRICT, Beside, Stage


@dataclass(frozen=True, config=STRICT)
class OutputConstraint:
    """Exactly one of `regex` (the whole answer matches), `json_schema` (it is JSON of that schema), `choices`.

    Local models cannot leave the form while decoding: tokens that would are never drawn. An endpoint is asked for the
    form (`response_format`, or vLLM's `structured_outputs`). Every answer is checked as well: one that has not the
    form, as when it ran out of tokens, becomes an error and is counted in `constraint_broken`.
    """

    regex: str | None = None
    json_schema: dict[str, JsonValue] | None = None
    choices: tuple[str, ...] = ()
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("llguidance", "jsonschema")

    def __post_init__(self) -> None:
        given = [name for name in ("regex", "json_schema", "choices") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of regex, json_schema and choices; given: {', '.join(given) or 'none'}")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as wrong:
                raise ValueError(f"regex is none: {wrong}") from wrong

    @property
    def constraint(self) -> Constraint:
        """What runners are told."""
        if self.regex is not None:
            return Constraint("regex", self.regex)
        if self.json_schema is not None:
            return Constraint("json_schema", json.dumps(self.json_schema, sort_keys=True))
        return Constraint("choices", json.dumps(self.choices))

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, held to the form."""
        if self.json_schema is not None:
            need("jsonschema", "Checking answers against a schema", INSTALL)
            from jsonschema import SchemaError, validators

            try:
                validators.validator_for(self.json_schema).check_schema(self.json_schema)
            except SchemaError as wrong:
                raise BadInput(f"json_schema is no JSON schema: {wrong.message}") from wrong
        made: Generate = weighing(Constrained, answering)(answering, self)
        return made

    def broken_by(self, text: str) -> str | None:
        """What is wrong with an answer; None where it has the form."""
        if self.regex is not None:
            return None if re.fullmatch(self.regex, text, re.DOTALL) else "it does not match the expression"
        if self.choices:
            return None if text in self.choices else "it is none of the choices"
        from jsonschema import ValidationError, validate

        try:
            validate(json.loads(text), self.json_schema or {})
        except ValueError as wrong:
            return f"it is not JSON ({wrong})"
        except ValidationError as wrong:
            return f"it is not of the schema ({wrong.message})"
        return None


class Constrained(Wrapped):
    """Asks with the constraint and checks what comes."""

    def __init__(self, inner: Generate, step: OutputConstraint) -> None:
        super().__init__(inner, step)
        self.step = step

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; an error where the answer has not the form."""
        answers = self.inner.generate(prompts, replace(sampling, constraint=self.step.constraint))
        return [self._checked(answer) for answer in answers]

    def _checked(self, answer: Completion) -> Completion:
        if answer.error is not None:
            return answer
        self.counted["constraint_answers"] += 1
        wrong = self.step.broken_by(answer.text)
        if wrong is None:
            return answer
        self.counted["constraint_broken"] += 1
        return replace(answer, error=f"The answer has not the form asked for: {wrong}: {answer.text[:80]!r}")


def asked_of_server(constraint: Constraint) -> Mapping[str, Any]:
    """What a chat completions request says to hold a constraint: OpenAI's field for schemas, vLLM's for the others."""
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "strict": True, "schema": json.loads(constraint.value)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if constraint.kind == "choices":
        return {"structured_outputs": {"choice": json.loads(constraint.value)}}
    return {"structured_outputs": {"regex": constraint.value}}
