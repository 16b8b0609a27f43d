"""Answers kept within a regular expression, a JSON schema or a list of choices while they are drawn (llguidance)."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from driftline.errors import BadInput
from driftline.protocols import Constraint
from variants.loading import INSTALL
from variants.lookup import need

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class Held:
    """What each answer of a batch may go on with; everything, where there is no constraint."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", constraint: Constraint | None, count: int, ends: frozenset[int]
    ) -> None:
        self._matchers: list[Any] = []
        if constraint is None:
            return
        from llguidance import LLMatcher

        table, grammar = _table(tokenizer, ends), grammar_of(constraint)
        self._matchers = [LLMatcher(table, grammar) for _ in range(count)]

    def allowed(self, logits: "torch.Tensor", rows: Sequence[int]) -> "torch.Tensor":
        """`logits` (rows, vocabulary) with minus infinity where the answer may not go on; `rows` number the answers."""
        if not self._matchers:
            return logits
        import numpy as np
        import torch

        for place, row in enumerate(rows):
            bits = np.frombuffer(self._matchers[row].compute_bitmask(), dtype=np.uint8)
            may = np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool)
            mask = torch.zeros(logits.shape[-1], dtype=torch.bool)
            mask[: len(may)] = torch.from_numpy(may)
            logits[place].masked_fill_(~mask, -torch.inf)
        return logits

    def took(self, row: int, token: int) -> None:
        """Tells that an answer went on with `token`."""
        if self._matchers:
            self._matchers[row].consume_token(token)

    def complete(self, row: int) -> bool:
        """Whether nothing more may follow."""
        return bool(self._matchers) and bool(self._matchers[row].is_stopped())


def grammar_of(constraint: Constraint) -> str:
    """The constraint as llguidance reads it.

    Raises:
        BadInput: It is no regular expression, schema or list of choices that can be held.
    """
    need("llguidance", "Output constraints", INSTALL)
    from llguidance import LLMatcher

    try:
        if constraint.kind == "regex":
            grammar: str = LLMatcher.grammar_from_regex(constraint.value)
        elif constraint.kind == "json_schema":
            # Free white space is what small models lose themselves in.
            schema = {**json.loads(constraint.value), "x-guidance": {"whitespace_flexible": False}}
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        elif constraint.kind == "choices":
            grammar = LLMatcher.grammar_from_regex("|".join(map(re.escape, json.loads(constraint.value))))
        else:
            raise BadInput(f"There is no constraint {constraint.kind!r}. Known: choices, json_schema, regex.")
        wrong = LLMatcher.validate_grammar(grammar)
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise BadInput(f"The {constraint.kind} {constraint.value[:80]!r} cannot be held: {wrong}")
    return grammar


@lru_cache(maxsize=4)
def _table(tokenizer: "PreTrainedTokenizerBase", ends: frozenset[int]) -> Any:
    from llguidance.hf import from_tokenizer

    fast: Any = tokenizer
    return from_tokenizer(fast, eos_token=sorted(ends))
