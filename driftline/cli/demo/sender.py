"""The demo's production app: a process of its own that answers real questions with a real model and has the SDK in it.

It reads one JSON plan from standard input, then commands (`next`, `stop`), and writes one JSON line per happening to
standard output. Each phase of the plan is one deployment: a variant, and how slow its service is.
"""

import json
import statistics
import sys
import threading
import time
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import driftline_sdk

from driftline.protocols import Completion, Generate, Sampling

AT_ONCE = 2  # users whose questions the app answers together
NEXT, STOP = "next", "stop"


def main() -> None:
    """Runs the plan, phase by phase as it is told; stops when it is told so, or when nobody is there to tell."""
    plan = json.loads(sys.stdin.readline())
    told: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    driftline_sdk.init(endpoint=plan["endpoint"], route=plan["route"], spool_dir=plan["spool_dir"])
    prompts = cycle(plan["prompts"])
    pace: list[float] = []
    sent = 0
    for phase in plan["phases"]:
        model = _opened(plan, phase)
        tell("deployed", variant=phase["variant"], at=time.time())
        while told.empty():
            batch = [next(prompts) for _ in range(AT_ONCE)]
            started = time.time()
            answers = model.generate([tuple(one["messages"]) for one in batch], Sampling(max_tokens=plan["max_tokens"]))
            if plan["pace_s"] is None:
                _wait(started, phase["slow_down"], pace)
                took_ms = [(time.time() - started) * 1000] * len(answers)
            else:  # recorded answers bring their own latency
                time.sleep(plan["pace_s"])
                took_ms = [answer.latency_ms for answer in answers]
            for one, answer, ms in zip(batch, answers, took_ms, strict=True):
                _record(phase["variant"], one, answer, started, ms, plan["model"])
            sent += len(batch)
            tell("sent", variant=phase["variant"], n=sent)
        if told.get() == STOP:
            break
    driftline_sdk.shutdown(10.0)
    tell("ended", stats=driftline_sdk.stats())


def _listen(told: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        told.put(line.strip())
    told.put(STOP)


def _opened(plan: dict[str, Any], phase: dict[str, Any]) -> Generate:
    from variants.open import open_variant
    from variants.recipe import Spec

    return open_variant(Spec.from_json(phase["spec"]), Path(plan["cache"]), threads=plan["threads"])


def _wait(started: float, slow_down: float, pace: list[float]) -> None:
    """Makes the service slower than in the first phase by the factor: what the demo injects beside the variant."""
    took = time.time() - started
    if slow_down <= 1.0:
        pace.append(took)
        return
    time.sleep(max(0.0, slow_down * statistics.median(pace) - took) if pace else 0.0)


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
