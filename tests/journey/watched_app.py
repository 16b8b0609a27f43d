"""An app that is watched, in a process of its own with the real SDK: `python watched_app.py ENDPOINT SPOOL SEED`.

It answers as `base` until a line comes on standard input, then as the worse and slower `int8` until the next line; then
it prints the ids of all it recorded, when it changed and what the SDK says became of the records, as one JSON line.
"""

import json
import random
import sys
import threading
import time

import driftline_sdk

ANSWERS = ("Paris", "1848", "the Danube", "yes")
PHASES = (("base", 0.85, 400.0), ("int8", 0.35, 900.0))
PAUSE_S = 0.015


def answer(rng: random.Random, variant: str, right: float, ms: float) -> str:
    truth = rng.choice(ANSWERS)
    tokens = rng.randint(20, 60)
    identity = driftline_sdk.record(
        input=f"Question {rng.random()}?",
        output=truth if rng.random() < right else "I do not know that.",
        variant=variant,
        latency_ms=ms * rng.lognormvariate(0, 0.3) * (tokens / 40) ** 0.2,
        started_at=time.time(),
        input_tokens=tokens,
        output_tokens=3,
    )
    driftline_sdk.feedback(identity, "expected", truth)
    return identity


def main(endpoint: str, spool: str, seed: str) -> None:
    driftline_sdk.init(endpoint=endpoint, route="qa", spool_dir=spool, interval_s=0.1, timeout_s=2.0)
    rng, ids, began = random.Random(seed), [], []
    for phase in PHASES:
        told = threading.Event()
        threading.Thread(target=lambda told=told: (sys.stdin.readline(), told.set()), daemon=True).start()
        began.append(time.time())
        while not told.wait(PAUSE_S):
            ids.append(answer(rng, *phase))
    delivered = driftline_sdk.flush(60.0)
    driftline_sdk.shutdown(5.0)
    print(json.dumps({"ids": ids, "began": began, "delivered": delivered, "stats": driftline_sdk.stats()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
