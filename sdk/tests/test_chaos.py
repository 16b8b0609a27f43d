"""Everything at once: threads, a collector that fails in every way, sampling, a small queue. Nothing goes uncounted."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector, accounted, start

import driftline_sdk

SOON = {"Retry-After": "0.05"}
TROUBLE: list[Any] = [(503, {"Retry-After": "0"}), (429, SOON), (500, SOON), 0.05, 0.0]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("spooling", [True, False])
def test_every_record_is_delivered_or_counted(collector: Collector, tmp_path: Path, seed: int, spooling: bool) -> None:
    dice = random.Random(seed)
    spool = tmp_path if spooling else ""
    start(collector, queue_max=300, sample_rate=0.9, spool_dir=spool, spool_max_bytes=150_000)
    collector.reject = lambda record: "unlucky" if record["id"].endswith("7") else None
    collector.most_bytes = 30_000
    collector.script = [dice.choice(TROUBLE) for _ in range(15)]
    made: set[str] = set()
    lock = threading.Lock()

    def work(number: int) -> None:
        own = random.Random(f"{seed} {number}")
        for _ in range(300):
            sent = driftline_sdk.record(output="x" * own.choice([10, 1_000]), session_id=str(own.random()))
            with lock:
                made.add(sent)
            time.sleep(own.choice([0.0, 0.0, 0.002]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driftline_sdk.flush(60)
    stats = driftline_sdk.stats()
    assert accounted(stats)
    assert stats["recorded"] == len(made) == 1_200
    assert stats["queued"] == stats["spooled"] == 0
    assert collector.records.keys() <= made
    assert len(collector.records) == stats["sent"]
    assert collector.dropped("sampled_out") == stats["sampled_out"] > 0
    for reason, number in stats["dropped"].items():
        assert collector.dropped(reason) == number
    assert stats["dropped"]["rejected"] > 0
