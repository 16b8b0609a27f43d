"""OTLP's three signals as batches for the store: one reader each, whatever transport brought the request."""

from collections.abc import Callable

from collector.admission import Sender
from collector.otlp import Refused, read_spans
from collector.otlp_logs import count_data_points, read_log_records
from collector.writer import Batch
from driftline.moment import now_us

Read = Callable[[bytes, Sender, bool], tuple[Batch, Refused]]


def read_traces(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a trace request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP trace request.
    """
    rows, refused, others = read_spans(body, sender, now_us(), as_json=as_json)
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
    """A batch that counts what was sent, all of it refused: a metric does not say which calls it stands for.

    Raises:
        Undecodable: The body is no OTLP metrics request.
    """
    points = count_data_points(body, as_json=as_json)
    batch = Batch(sender.project_id, intake={"metrics": points} if points else {})
    reason = "Metrics are not stored: latency, tokens and errors are taken from spans, call by call. Send spans here"
    return batch, Refused(points, [f"{reason}, and metrics to a metrics store."])


READERS: dict[str, Read] = {"traces": read_traces, "logs": read_logs, "metrics": read_metrics}
