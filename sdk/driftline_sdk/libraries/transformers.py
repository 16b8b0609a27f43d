"""transformers: pipelines that generate, and `model.generate`; every row of a batch is a generation."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, cast

from driftline_sdk.calls import taker
from driftline_sdk.faults import swallow
from driftline_sdk.generation import Generation, leave, opened

_MARK = "_driftline_watched"
_TEXTS = ("generated_text", "summary_text", "translation_text")


def watch(target: Any, tokenizer: Any = None) -> Any:
    """Watches a pipeline, or a model's `generate`.

    A model has token ids only: with its tokenizer they are recorded as texts, decoded in the caller's thread (a
    tokenizer must not be used by two threads), without it as lists of numbers. The first token's time is known when
    there is a streamer. Of inputs that are generators or datasets each is recorded as its model sees it.
    """
    if hasattr(target, "run_single"):
        _watch_pipeline(target)
    else:
        _watch_generate(target, tokenizer)
    return target


def _watch_pipeline(pipeline: Any) -> None:
    _watch_generate(pipeline.model, pipeline.tokenizer)
    kind = type(pipeline)
    if getattr(kind, _MARK, False):
        return

    def call(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        answer = functools.partial(kind.__call__, self, inputs, *args, **kwargs)
        questions = _questions(inputs)
        if questions is None:
            return answer()
        return _Rows(questions, self.model, pipe=True).run(answer, _pipeline_texts)

    # A call finds `__call__` in the class only, so this one object gets a class of its own.
    pipeline.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__, _MARK: True})


def _watch_generate(model: Any, tokenizer: Any) -> None:
    generate = model.generate
    if getattr(generate, _MARK, False):
        return

    @functools.wraps(generate)
    def watched(*args: Any, **kwargs: Any) -> Any:
        rows = None
        try:
            asked = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
            if asked is not None and len(asked.shape) == 2:
                tokens = _Tokens(model, tokenizer, asked, kwargs.get("attention_mask"))
                rows = _Rows(tokens.asked, model)
        except Exception as error:  # noqa: BLE001 - the application must not notice
            swallow(error, "watching generate")
        if rows is None:
            return generate(*args, **kwargs)
        if kwargs.get("streamer") is not None:
            kwargs["streamer"] = _Streamer(kwargs["streamer"], rows.generations)
        return rows.run(functools.partial(generate, *args, **kwargs), tokens.answered)

    setattr(watched, _MARK, True)
    model.generate = watched


class _Gather:
    """Stands where an open generation would, and keeps what the calls inside learn, row by row."""

    is_open = True
    variant = None
    tags: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.inner: list[Generation] = []

    def submit(self, inner: Generation) -> None:
        self.inner.append(inner)


class _Rows:
    """The generations of one call, one per row of its batch."""

    def __init__(self, questions: Sequence[Any], model: Any, pipe: bool = False) -> None:
        outer = taker()
        name = getattr(model, "name_or_path", None) or type(model).__name__
        self._gather = _Gather() if pipe else None
        self.questions = questions
        self.generations = [Generation(outer, None, question, name) for question in questions] if outer else []

    def run(self, call: Callable[[], Any], texts: Callable[[_Rows, Any], None]) -> Any:
        """Makes the call, and ends the generations as it ends."""
        token = opened.set(cast("Generation", self._gather)) if self._gather is not None else None
        try:
            answer = call()
        except BaseException as error:
            for generation in self.generations:
                generation.fail(error)
            raise
        finally:
            if token is not None:
                leave(token)
        try:
            if self.generations:
                self._take_tokens()
                texts(self, answer)
        except Exception as error:  # noqa: BLE001 - a shape of the library that we did not foresee
            swallow(error, "reading an answer")
        for generation in self.generations:
            generation.end()
        return answer

    def _take_tokens(self) -> None:
        """What the pipeline's `generate` counted; rows come out in the order they went in."""
        inner = self._gather.inner if self._gather is not None else []
        if len(inner) == len(self.generations):
            for generation, counted in zip(self.generations, inner):
                generation.usage(counted.input_tokens, counted.output_tokens)
                generation.ttft_ms = counted.ttft_ms


class _Tokens:
    """Token ids of a batch as texts and counts."""

    def __init__(self, model: Any, tokenizer: Any, asked: Any, mask: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._width = int(asked.shape[1])
        ids = asked.tolist()
        masks = mask.tolist() if mask is not None else [[1] * self._width] * len(ids)
        self._rows = [[token for token, used in zip(row, used_row) if used] for row, used_row in zip(ids, masks)]
        self.asked = [self._text(row) for row in self._rows]

    def answered(self, rows: _Rows, answer: Any) -> None:
        """Fills in what was generated: the first of each row's sequences, without the prompt and the padding."""
        sequences = getattr(answer, "sequences", answer).tolist()
        each = max(1, len(sequences) // len(rows.generations))
        skip = 0 if getattr(self._model.config, "is_encoder_decoder", False) else self._width
        for number, generation in enumerate(rows.generations):
            tokens = self._without_padding(sequences[number * each][skip:])
            generation.usage(len(self._rows[number]), len(tokens))
            generation.output = self._text(tokens)

    def _without_padding(self, tokens: list[int]) -> list[int]:
        settings = getattr(self._model, "generation_config", None)
        ends = getattr(settings, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or ())
        for place, token in enumerate(tokens):
            if token in ends:
                return tokens[: place + 1]
        return tokens

    def _text(self, tokens: list[int]) -> str:
        if self._tokenizer is None or isinstance(opened.get(), _Gather):
            return str(tokens)
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class _Streamer:
    """The application's streamer; its second `put` is the first token, after the prompt."""

    def __init__(self, streamer: Any, generations: list[Generation]) -> None:
        self._streamer = streamer
        self._generations = generations
        self._puts = 0

    def put(self, value: Any) -> Any:
        self._puts += 1
        if self._puts == 2:
            for generation in self._generations:
                generation.first_token()
        return self._streamer.put(value)

    def end(self) -> Any:
        return self._streamer.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streamer, name)


def _questions(inputs: Any) -> list[Any] | None:
    """The prompts or chats of a pipeline's inputs; None for what is read while it runs."""
    if isinstance(inputs, (str, Mapping)):
        return [inputs]
    if not isinstance(inputs, (list, tuple)) or not inputs:
        return None
    return [inputs] if isinstance(inputs[0], Mapping) and "role" in inputs[0] else list(inputs)


def _pipeline_texts(rows: _Rows, answer: Any) -> None:
    """Fills in the generated texts, without the prompt that a pipeline may repeat."""
    answers = [answer] if len(rows.generations) == 1 and not _is_batch(answer) else answer
    for generation, asked, given in zip(rows.generations, rows.questions, answers):
        first = given[0] if isinstance(given, list) else given
        text = next((first[name] for name in _TEXTS if name in first), first)
        if isinstance(text, list):  # a chat, with the answer at its end
            text = text[-1].get("content")
        if isinstance(text, str) and isinstance(asked, str) and text.startswith(asked):
            text = text[len(asked) :]
        generation.output = text


def _is_batch(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer) and isinstance(answer[0], list)
