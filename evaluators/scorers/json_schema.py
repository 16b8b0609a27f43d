"""Does the answer have the shape that was asked for?"""

import json
from typing import Any

from driftline.errors import BadInput
from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.json_valid import parsed
from evaluators.scorers.judging import Each, optional, unscored


def json_schema(schema: dict[str, Any] | None = None, fenced: bool = True) -> Score:
    """1 where the answer is JSON that satisfies the schema, 0 elsewhere, with the first violation.

    Args:
        schema: A JSON Schema for all items; without one, each item's rubric is its schema, as JSON.
        fenced: As for `json_valid`.

    Raises:
        BadInput: The schema is none.
        MissingPackage: jsonschema is not installed.
    """
    library = optional("jsonschema", "jsonschema", "json_schema")
    referencing = optional("referencing", "jsonschema", "json_schema")
    nothing_remote = referencing.Registry()  # without a registry of its own, jsonschema fetches $ref from the network

    def validator(of: Any) -> Any:
        if not isinstance(of, dict | bool):
            raise library.SchemaError(f"a schema is an object, true or false, and this is {json.dumps(of)[:60]}")
        if isinstance(of, dict) and not isinstance(of.get("$schema", ""), str):
            raise library.SchemaError("its $schema is no text")
        kind = library.validators.validator_for(of, default=library.Draft202012Validator)
        kind.check_schema(of)
        return kind(of, registry=nothing_remote)

    try:
        for_all = None if schema is None else validator(schema)
    except library.SchemaError as error:
        raise BadInput(f"The schema is no JSON Schema: {error.message}.") from error

    def judge(answered: Answered) -> Scored:
        if for_all is None and answered.rubric is None:
            return unscored("neither the scorer nor the item has a schema")
        try:
            check = for_all or validator(json.loads(answered.rubric or ""))
        except (ValueError, RecursionError, library.SchemaError) as error:
            return unscored(f"the item's rubric is no JSON Schema: {getattr(error, 'message', error)}")
        try:
            violations = check.iter_errors(parsed(answered.text, fenced))
            first = next(iter(sorted(violations, key=lambda violation: list(map(str, violation.path)))), None)
        except referencing.exceptions.Unresolvable as error:
            return unscored(f"the schema refers to what it does not contain: {error.ref}")
        except (ValueError, RecursionError) as error:
            return Scored(0.0, because=str(error))
        if first is not None:
            return Scored(0.0, because=f"{first.json_path}: {first.message[:200]}")
        return Scored(1.0)

    return Each("json_schema", judge)
