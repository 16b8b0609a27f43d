"""The process beside a collector that reads trace requests; `collector.decoder` runs it.

It takes jobs from its standard input and answers each, in their order, on its standard output. It ends where its input
ends, so it never outlives the collector. It imports little, and holds one request at a time.
"""

import os
import signal
import struct
import sys
from functools import lru_cache
from typing import IO

import msgspec
from msgspec import Struct

from collector.items import Refused
from collector.otlp import read_spans
from collector.rows import Privacy, Row
from collector.sender import Sender
from driftline import heap
from driftline.moment import now_us

LENGTHS = struct.Struct("<QQ")  # of a job's head and of the body behind it
LENGTH = struct.Struct("<Q")  # of an answer; 0 where the job could not be done


class Head(Struct, array_like=True):
    """What is to be known of a body."""

    project_id: int
    store_text: str
    as_json: bool


class Spans(Struct, array_like=True):
    """What a body held."""

    rows: list[Row]
    refused: Refused
    others: int


def main() -> None:
    """Answers jobs until there are no more."""
    heap.hold_little()
    heap.settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the collector finishes what it has begun
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed must not come between the answers
    jobs = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    head_of, packed = msgspec.msgpack.Decoder(Head), msgspec.msgpack.Encoder()
    while len(lengths := read_fully(jobs, LENGTHS.size)) == LENGTHS.size:
        of_head, of_body = LENGTHS.unpack(lengths)
        head, body = read_fully(jobs, of_head), read_fully(jobs, of_body)
        if len(body) < of_body:
            return  # the collector was killed
        try:
            answer = packed.encode(_read(head_of.decode(head), body))
        except Exception:  # noqa: BLE001 - the collector reads it again, and tells its sender what is wrong
            answer = b""
        _write(answers, LENGTH.pack(len(answer)) + answer)


def _read(head: Head, body: bytes) -> Spans:
    sender = Sender(head.project_id, _privacy(head.store_text))
    rows, refused, others = read_spans(body, sender, now_us(), as_json=head.as_json)
    return Spans(rows, refused, others)


@lru_cache(maxsize=8)
def _privacy(store_text: str) -> Privacy:
    return Privacy(store_text)


def read_fully(file: IO[bytes], size: int) -> bytes:
    """So many bytes of an unbuffered file, fewer only at its end."""
    held = bytearray(size)
    rest = memoryview(held)
    while rest and (n := file.readinto(rest)):  # type: ignore[attr-defined]
        rest = rest[n:]
    return bytes(held[: size - len(rest)])


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


if __name__ == "__main__":
    main()
