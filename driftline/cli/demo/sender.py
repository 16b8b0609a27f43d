"""The demo's production app: a process of its own that answers real questions with a real model and has the SDK in it.

It reads one JSON plan from standard input, then one JSON phase a line, and writes one JSON line per happening to
standard output; the end of the input is its end. A phase is a deployment: a variant, how slow its service is, and how
many people ask. At first each waits for the one before; once something was deployed in its place they come at `people`
times that pace and do not wait for each other.
"""

import json
import statistics
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import driftline_sdk

from driftline.protocols import Completion, Generate, Sampling

AT_ONCE = 2  # people whose questions the app answers together
MOST_WAITING = 4  # such batches
STOP = None  # after the last phase


def main() -> None:
    """Serves phase after phase, each until the next one comes; stops when nobody is there to tell any more."""
    plan = json.loads(sys.stdin.readline())
    told: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    driftline_sdk.init(endpoint=plan["endpoint"], route=plan["route"], spool_dir=plan["spool_dir"])
    service = Service(plan)
    while (phase := told.get()) is not STOP:
        service.deploy(phase)
        service.serve(told)
    driftline_sdk.shutdown(10.0)
    tell("ended", stats=driftline_sdk.stats())


class Service:
    """Answers the plan's questions with what is deployed, and records every answer."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._questions = cycle(plan["prompts"])
        self._pace: list[float] = []  # seconds a batch took in the first phase
        self._model_is_busy, self._counting = threading.Lock(), threading.Lock()
        self._sent = 0
        if plan["pace_s"] is None:
            _load_libraries()

    def deploy(self, phase: dict[str, Any]) -> None:
        """Opens the variant of a phase in place of the one before."""
        self._phase, self._model = phase, _opened(self._plan, phase)
        tell("deployed", variant=phase["variant"], at=time.time())

    def serve(self, told: "SimpleQueue[dict[str, Any] | None]") -> None:
        """Answers until something is told; questions that were asked by then are answered to the end."""
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(MOST_WAITING) as people:
            while told.empty():
                waiting.append(people.submit(self._answer, [next(self._questions) for _ in range(AT_ONCE)]))
                if self._first or len(waiting) == MOST_WAITING:
                    waiting[0].result()
                else:
                    time.sleep(statistics.median(self._pace) / self._phase["people"])
                for one in waiting:
                    if one.done():
                        one.result()  # raises what it raised
                waiting = [one for one in waiting if not one.done()]

    @property
    def _first(self) -> bool:
        return float(self._phase["slow_down"]) <= 1.0

    def _answer(self, batch: list[dict[str, Any]]) -> None:
        started, pace_s = time.time(), self._plan["pace_s"]
        with self._model_is_busy:
            answers = self._model.generate(
                [tuple(one["messages"]) for one in batch], Sampling(max_tokens=self._plan["max_tokens"])
            )
        took = time.time() - started
        if pace_s is not None:  # recorded answers bring their own latency
            time.sleep(pace_s)
            took_ms = [answer.latency_ms for answer in answers]
        else:
            if self._first:
                self._pace.append(took)
            else:  # the slowness that the demo injects beside the variant
                time.sleep(max(0.0, self._phase["slow_down"] * statistics.median(self._pace) - took))
            took_ms = [(time.time() - started) * 1000] * len(answers)
        for one, answer, ms in zip(batch, answers, took_ms, strict=True):
            _record(self._phase["variant"], one, answer, started, ms, self._plan["model"])
        with self._counting:
            self._sent += len(batch)
            tell("sent", variant=self._phase["variant"], n=self._sent)


def _listen(told: "SimpleQueue[dict[str, Any] | None]") -> None:
    for line in sys.stdin:
        told.put(json.loads(line))
    told.put(STOP)


def _load_libraries() -> None:
    """Takes seconds, better now than when the first question waits."""
    import transformers

    _ = transformers.AutoModelForCausalLM  # transformers loads what it is asked for


def _opened(plan: dict[str, Any], phase: dict[str, Any]) -> Generate:
    from variants.open import open_variant
    from variants.recipe import Spec

    return open_variant(Spec.from_json(phase["spec"]), Path(plan["cache"]), threads=plan["threads"])


def _record(variant: str, one: dict[str, Any], answer: Completion, started: float, ms: float, model: str) -> None:
    identity = driftline_sdk.record(
        input=one["messages"], output=answer.text, started_at=started, latency_ms=ms, variant=variant,
        model=model, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens, error=answer.error,
        status="error" if answer.error else "ok",
    )  # fmt: skip
    # The true answer reaches the scorers as feedback; the app, the model and the detectors never see it.
    driftline_sdk.feedback(identity, "expected", one["expected"])


def tell(event: str, **facts: Any) -> None:
    """Writes one happening."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
