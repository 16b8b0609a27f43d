"""OTLP's three signals as batches for the store: one reader each, whatever transport brought the request."""

from collections.abc import Callable

from collector.items import Refused
from collector.metrics import read_points
from collector.otlp import read_spans
from collector.otlp_logs import read_log_records
from collector.rows import Row
from collector.sender import Sender
from collector.writer import Batch
from driftline.moment import now_us

Read = Callable[[bytes, Sender, bool], tuple[Batch, Refused]]


def read_traces(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a trace request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP trace request.
    """
    return batch_of(sender, *read_spans(body, sender, now_us(), as_json=as_json))


def batch_of(sender: Sender, rows: list[Row], refused: Refused, others: int) -> tuple[Batch, Refused]:
    """The batch of spans that were read, and what of them is refused."""
    batch = Batch(sender.project_id, rows=rows, fills=True)
    if refused.n:
        batch.intake["rejected"] = refused.n
    if others:
        batch.intake["other_spans"] = others
    return batch, refused


def read_logs(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a log request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP log request.
    """
    taken = read_log_records(body, sender, now_us(), as_json=as_json)
    batch = Batch(sender.project_id, feedback=taken.feedback, messages=taken.messages)
    if taken.refused.n:
        batch.intake["other_logs"] = taken.refused.n
    return batch, taken.refused


def read_metrics(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a metrics request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP metrics request.
    """
    points, refused = read_points(body, sender, now_us(), as_json=as_json)
    return Batch(sender.project_id, points=points, intake={"metrics": refused.n} if refused.n else {}), refused


READERS: dict[str, Read] = {"traces": read_traces, "logs": read_logs, "metrics": read_metrics}
