"""The process that reads beside a collector makes it faster and changes nothing, whatever becomes of that process."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import psutil
import pytest
from sqlmodel import col, func, select

from benchmarks.ingest_load import otlp_body
from collector.core import Collector
from collector.decoder import WORTHWHILE, Decoder
from collector.items import Undecodable
from collector.otlp import read_spans
from collector.rows import TEXT_RULES, Privacy
from collector.sender import Sender
from driftline.errors import TooLarge
from driftline.moment import now_us
from driftline.store.engine import reading
from driftline.store.tables import Generation

PROTOBUF = {"content-type": "application/x-protobuf"}
SPANS = 40  # about 90 kB


@pytest.fixture
def decoder(data_dir: Any) -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.stop()


async def ready(decoder: Decoder) -> int:
    """The process's id, once it takes bodies."""
    until = time.monotonic() + 60
    while decoder.pid is None:
        await decoder.read(b"", Sender(1, Privacy("full")), False)  # the first one starts it
        assert time.monotonic() < until, "it did not start"
        await asyncio.sleep(0.01)
    return decoder.pid


def gone(pid: int) -> bool:
    """Whether a process ends within a minute."""
    until = time.monotonic() + 60
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    return True


@pytest.mark.parametrize("rule", list(TEXT_RULES))
def test_it_reads_what_the_collector_would_read(decoder: Decoder, rule: str) -> None:
    sender, body = Sender(7, Privacy(rule)), otlp_body(SPANS)

    async def read() -> Any:
        await ready(decoder)
        return await decoder.read(body, sender, False)

    spans = asyncio.run(read())
    rows, refused, others = read_spans(body, sender, now_us(), as_json=False)
    for row in (*spans.rows, *rows):
        row.received_at = 0  # stamped when it is stored
    assert spans.rows == rows
    assert len(rows) == SPANS
    assert (spans.refused, spans.others) == (refused, others)
    assert decoder.done == 1


def test_what_it_cannot_read_the_collector_explains(sqlite_store: Any) -> None:
    async def explained(body: bytes) -> None:
        collector = Collector(decoders=1)
        async with collector.lifespan(None):  # type: ignore[arg-type]
            await ready(collector.decoders[0])
            await collector.read_signal("traces", body, Sender(1, Privacy("full")), False)

    with pytest.raises(Undecodable, match="not an OTLP request"):
        asyncio.run(explained(b"\xff" * WORTHWHILE))
    with pytest.raises(TooLarge, match="100000 items"):
        asyncio.run(explained(b"\x0a\x00" * 200_000))


def test_what_it_is_too_busy_for_is_read_at_once_and_answers_keep_their_order(decoder: Decoder) -> None:
    bodies, sender = [otlp_body(n) for n in (30, 31, 32, 33, 34, 35)], Sender(1, Privacy("full"))

    async def read() -> list[int | None]:
        await ready(decoder)
        several = [asyncio.create_task(decoder.read(body, sender, False)) for body in bodies]
        await asyncio.sleep(0)
        several[0].cancel()  # its sender has gone away
        answers = await asyncio.gather(*several, return_exceptions=True)
        answers.append(await decoder.read(bodies[3], sender, False))
        return [len(one.rows) if hasattr(one, "rows") else None for one in answers]

    assert asyncio.run(read()) == [None, 31, 32, 33, None, None, 33]


def test_what_a_killed_one_held_is_read_by_the_collector_and_another_one_starts(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.decoder._PAUSE_S", 0.0)
    body, sender = otlp_body(SPANS), Sender(1, Privacy("full"))

    async def read() -> tuple[Any, Any, int, int]:
        first = await ready(decoder)
        os.kill(first, signal.SIGSTOP)
        held = asyncio.create_task(decoder.read(body, sender, False))
        await asyncio.sleep(0.05)
        os.kill(first, signal.SIGKILL)
        lost = await held
        second = await ready(decoder)
        return lost, await decoder.read(body, sender, False), first, second

    lost, answer, first, second = asyncio.run(read())
    assert lost is None
    assert len(answer.rows) == SPANS
    assert first != second


def test_one_that_hangs_is_ended(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.decoder._PATIENCE_S", 0.2)

    async def read() -> tuple[Any, int]:
        pid = await ready(decoder)
        os.kill(pid, signal.SIGSTOP)
        return await decoder.read(otlp_body(SPANS), Sender(1, Privacy("full")), False), pid

    answer, pid = asyncio.run(read())
    assert answer is None
    assert gone(pid)


def test_kills_while_calls_come_lose_and_double_nothing(
    sqlite_store: Any, app_of: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.decoder._PAUSE_S", 0.0)
    collector = Collector(decoders=2)
    rng = random.Random(1)
    with serve(app_of(collector)) as port, ThreadPoolExecutor(4) as senders:

        def send(_n: int) -> int:
            return httpx.post(
                f"http://127.0.0.1:{port}/v1/traces", content=otlp_body(SPANS), headers=PROTOBUF, timeout=60
            ).status_code

        answers = [senders.submit(send, n) for n in range(100)]
        kills = 0
        while not all(answer.done() for answer in answers):
            time.sleep(rng.uniform(0.0, 0.05))
            if pid := collector.decoders[kills % 2].pid:
                os.kill(pid, signal.SIGKILL)
                kills += 1
                gone(pid)
        assert [answer.result() for answer in answers] == [200] * 100
    with reading() as session:
        stored = session.exec(select(func.count(), func.count(col(Generation.id).distinct()))).one()
    assert stored == (100 * SPANS, 100 * SPANS)
    assert kills > 3
    assert all(decoder.pid is None for decoder in collector.decoders)


ORPHAN = """
import asyncio
from collector.decoder import Decoder
from tests.collector.test_decoder import ready
print(asyncio.run(ready(Decoder())), flush=True)
import time; time.sleep(600)
"""


def test_it_does_not_outlive_a_collector_that_is_killed(data_dir: Any) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert gone(pid)
    parent.stdout.close()


def test_one_that_is_stopped_while_it_starts_ends(data_dir: Any) -> None:
    for pause_s in (0.0, 0.001, 0.01, 0.1):
        decoder = Decoder()
        asyncio.run(decoder.read(b"", Sender(1, Privacy("full")), False))
        time.sleep(pause_s)
        decoder.stop()
        assert decoder.pid is None
        asyncio.run(decoder.read(b"", Sender(1, Privacy("full")), False))
        assert decoder.pid is None, "it does not start again"


def test_small_requests_and_an_unwilling_collector_start_none(sqlite_store: Any, app_of: Any, serve: Any) -> None:
    for decoders, spans in ((1, 1), (0, SPANS)):
        collector = Collector(decoders=decoders)
        with serve(app_of(collector)) as port:
            for _ in range(3):
                answer = httpx.post(f"http://127.0.0.1:{port}/v1/traces", content=otlp_body(spans), headers=PROTOBUF)
                assert answer.status_code == 200
            assert [one._thread for one in collector.decoders] == [None] * decoders
