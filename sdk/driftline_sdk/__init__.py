"""Sends what your language model answers to Driftline: microseconds, no dependencies, nothing lost silently.

>>> import driftline_sdk
>>> driftline_sdk.init(endpoint="http://127.0.0.1:8400", variant="llama-int4", route="summarize", spool_dir="")
>>> with driftline_sdk.generation(input="Summarize: ...", model="llama") as g:
...     g.first_token()
...     g.output = "In short: ..."
...     g.usage(input_tokens=120, output_tokens=9)
>>> judged = driftline_sdk.feedback(g.id, "thumbs", True)
>>> delivered = driftline_sdk.shutdown(timeout_s=0.2)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, TypeVar, cast

from driftline_sdk import process
from driftline_sdk.context import Scope, carry, current
from driftline_sdk.faults import shown, swallow
from driftline_sdk.feedback import Feedback, Value
from driftline_sdk.forgiving import forgiving
from driftline_sdk.generation import NOT_MEASURED, Generation, ids
from driftline_sdk.in_hand import InHand
from driftline_sdk.observe import observe

__all__ = [
    "Generation",
    "aflush",
    "ashutdown",
    "carry",
    "context",
    "feedback",
    "flush",
    "generation",
    "init",
    "observe",
    "record",
    "route",
    "shutdown",
    "stats",
    "watch",
]
__version__ = "0.1.0"

Watched = TypeVar("Watched")


@forgiving
def init(**settings: Any) -> None:
    """Starts recording; call it once, early. Called again, the new settings replace the old.

    The settings are those of `driftline_sdk.settings.Settings`: `endpoint`, `api_key`, `variant`, `route`,
    `sample_rate`, `tags`, `redact`, `spool_dir`, `spool_max_bytes`, `queue_max`, `queue_max_bytes`, `interval_s`,
    `timeout_s`, `exit_timeout_s`, `follow_threads`, `enabled`. What is not given comes from `DRIFTLINE_<NAME>` in the
    environment. Without `init`, recording starts by itself if `DRIFTLINE_ENDPOINT` is set.
    """
    try:
        process.start(settings)
    except Exception as error:  # noqa: BLE001 - the application must start without us
        swallow(error, "init")


@forgiving
def generation(
    input: Any = None,  # noqa: A002 - the wire's own word
    *,
    model: str | None = None,
    variant: str | None = None,
    route: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    id: str | None = None,  # noqa: A002
) -> InHand:
    """One call, for a `with` or `async with` statement: set `output`, `usage()` and `first_token()` inside.

    `input` is a text or a list of {role, content}, copied as it is now. An exception inside becomes the record's error
    and goes on to you; a cancelled task or a closed generator makes it `aborted`.
    """
    try:
        return InHand(process.client(), id, input, model, variant, session_id, user_id, tags, route)
    except Exception as error:  # noqa: BLE001 - the application must not notice
        process.lose(variant)
        swallow(error, "generation")
        return InHand(None)


@forgiving
def record(
    *,
    input: Any = None,  # noqa: A002
    output: Any = None,
    id: str | None = None,  # noqa: A002
    route: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    variant: str | None = None,
    model: str | None = None,
    tags: Mapping[str, str] | None = None,
    **fields: Any,
) -> str:
    """Records a call that is over, in one go, and answers with its id.

    The other `fields`: `started_at` (epoch seconds; without it, now less the latency), `latency_ms`, `ttft_ms`,
    `input_tokens`, `output_tokens`, `cost_usd`, `status` (`ok`, `error`, `aborted`), `error`.
    """
    try:
        done = Generation(process.client(), id, input, model, variant, session_id, user_id, tags, route)
        done.output = output
        started = fields.get("started_at") is not None
        for name in _MEASURED:
            if name in fields:
                setattr(done, name, fields.pop(name))
        given = done.latency_ms
        if given is None:
            done.latency_ms = NOT_MEASURED
        elif not started and isinstance(given, (int, float)):
            done.started_at -= given / 1e3
        done.end()
        if fields:
            unknown = ", ".join(map(repr, fields))
            swallow(TypeError(f"record() has no {unknown}; besides the rest it has {', '.join(_MEASURED)}"), "record")
        return done.id
    except Exception as error:  # noqa: BLE001 - the application must not notice
        process.lose(variant)
        swallow(error, "record")
        return id if isinstance(id, str) and id else ids.new()


_MEASURED = ("started_at", "latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd", "status", "error")


@forgiving
def feedback(generation_id: str, name: str, value: Value, comment: str | None = None) -> str:
    """Attaches a judgement to a generation, early or days late, and answers with the feedback's id.

    `value` is a number, a boolean or a text; the name `expected` says the true answer.
    """
    try:
        given = Feedback(generation_id, name, value, comment)
        client = process.client()
        if client is not None:
            client.give(given)
        return given.id
    except Exception as error:  # noqa: BLE001 - the application must not notice
        process.lose_feedback()
        swallow(error, "feedback")
        return ids.new()


@forgiving
def context(
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    variant: str | None = None,
    route: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Scope:
    """Says, for everything inside the `with` block, who is asking. Inner blocks add to outer ones.

    It follows asyncio tasks, threads started inside until the block ends, and work given to a ThreadPoolExecutor;
    `carry(function)` binds it for anything else.
    """
    try:
        client = process.client()
        if client is not None and client.settings.follow_threads:
            from driftline_sdk.threads import follow_threads

            follow_threads()
        return Scope(session_id, user_id, variant, tags, route)
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "context")
        return Scope(None, None, None, None)


@forgiving
def route(
    name: str | None = None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    fallback: str | None = None,
    wait_s: float = 0.2,
) -> str | None:
    """The variant that shall answer on a route: production, or the canary where this session belongs to it.

    Microseconds from memory; a thread asks the server again every few seconds. A session (or user) always gets the
    same variant; without one, as inside `context()`, it is that of the context, and nobody's gets production. While
    nothing is known of the route (the first question waits `wait_s` for an answer), it is `fallback`, else the
    setting `variant`. Once known, the last answer holds for as long as the server is away, also over restarts.
    """
    fallback = fallback if fallback is not None else _default_variant()
    try:
        client = process.client()
        if client is None:
            return fallback
        scope = current()
        key = session_id or user_id or (scope and (scope.session_id or scope.user_id)) or None
        return client.routes.choose(name or client.settings.route or "default", key, fallback, wait_s)
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "route")
        return fallback


def _default_variant() -> str | None:
    return process.active.variant if process.active is not None else None


@forgiving
def watch(client: Watched, **options: Any) -> Watched:
    """Records every call of a client library's object, and answers with that object (of a chain, a watched one).

    Knows OpenAI and Azure OpenAI, Anthropic, Google GenAI, LiteLLM, transformers pipelines and models, LangChain and
    LlamaIndex models, requests and httpx sessions. Anything else is answered as it is, with a warning. The only option
    is `tokenizer`, for a model of transformers.
    """
    try:
        from driftline_sdk.libraries import watch_with

        return cast("Watched", watch_with(client, options))
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "watch")
        return client


@forgiving
def flush(timeout_s: float = 5.0) -> bool:
    """Waits until everything recorded so far, spool included, is at the collector; False if the time was too short."""
    try:
        return process.active is None or process.active.flush(_seconds(timeout_s, 5.0, "flush"))
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "flush")
        return False


@forgiving
def shutdown(timeout_s: float = 2.0) -> bool:
    """Ends recording: sends what it can in the time and spools the rest; True when all was delivered.

    Happens by itself when the interpreter exits.
    """
    try:
        return process.stop(_seconds(timeout_s, 2.0, "shutdown"))
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "shutdown")
        return False


@forgiving
async def aflush(timeout_s: float = 5.0) -> bool:
    """`flush` for asynchronous code: the event loop goes on while a thread waits."""
    return await _in_thread(flush, timeout_s)


@forgiving
async def ashutdown(timeout_s: float = 2.0) -> bool:
    """`shutdown` for asynchronous code, as at the end of a server's lifespan."""
    return await _in_thread(shutdown, timeout_s)


def _seconds(given: Any, usual: float, where: str) -> float:
    """The seconds that were given; the usual ones, and a word about it, where that is no number of them."""
    if isinstance(given, (int, float)) and given == given:
        return min(max(given, 0.0), _LONGEST_S)
    swallow(TypeError(f"{where}() takes a number of seconds, not {shown(given)}; it takes {usual}"), where)
    return usual


_LONGEST_S = 1e6  # threads cannot wait for ever


async def _in_thread(wait: Callable[[float], bool], timeout_s: float) -> bool:
    import asyncio  # whoever awaits has it

    try:
        waiting = asyncio.get_running_loop().run_in_executor(None, wait, timeout_s)
    except RuntimeError:  # another library's event loop, or one that closes
        return wait(timeout_s)
    return await waiting


@forgiving
def stats() -> dict[str, Any]:
    """Where everything is: `recorded + adopted` = `queued + sent + spooled + sampled_out +` the sum of `dropped`.

    `dropped` is by reason; `adopted` was left by earlier processes; `errors` are mistakes of the SDK and in
    what it was handed, by place. Empty before `init`.
    """
    return {} if process.active is None else process.active.stats()
