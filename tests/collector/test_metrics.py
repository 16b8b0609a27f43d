"""Metrics of models are kept beside the calls; what is not is refused in words."""

import time

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from sqlmodel import select

from collector.budget import Budget
from driftline.moment import MINUTE, now_us
from driftline.store.engine import reading
from driftline.store.tables import Generation, Intake, MetricPoint, Rollup

PROTOBUF = {"content-type": "application/x-protobuf"}
DELTA, CUMULATIVE = 1, 2
NOW = time.time_ns() // 10**9 * 10**9


def points() -> list[MetricPoint]:
    with reading() as session:
        return list(session.exec(select(MetricPoint).order_by(MetricPoint.name, MetricPoint.at)))


def request() -> tuple[ExportMetricsServiceRequest, object]:
    made = ExportMetricsServiceRequest()
    group = made.resource_metrics.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    return made, group.scope_metrics.add().metrics


def label(point, **said: str):
    for key, value in said.items():
        point.attributes.add(key=key.replace("__", ".")).value.string_value = value
    return point


def send(client, made: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse:
    answer = client.post("/v1/metrics", content=made.SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200, answer.content
    return ExportMetricsServiceResponse.FromString(answer.content)


def everything() -> ExportMetricsServiceRequest:
    """One metric of each kind."""
    made, metrics = request()
    times = {"start_time_unix_nano": NOW - 10**10, "time_unix_nano": NOW}
    told = metrics.add(name="gen_ai.a", unit="s").histogram
    told.aggregation_temporality = CUMULATIVE
    label(told.data_points.add(count=3, sum=1.5, **times), gen_ai__request__model="gpt")
    told = metrics.add(name="gen_ai.b").exponential_histogram
    told.aggregation_temporality = DELTA
    label(told.data_points.add(count=2, sum=4.0, **times), gen_ai__request__model="gpt")
    told = metrics.add(name="gen_ai.c").sum
    told.aggregation_temporality, told.is_monotonic = CUMULATIVE, True
    label(told.data_points.add(as_int=-7 + 14, **times), gen_ai__request__model="gpt")
    metrics.add(name="gen_ai.d").gauge.data_points.add(as_double=0.25, **times)
    metrics.add(name="gen_ai.e").summary.data_points.add(count=4, sum=8.0, **times)
    return made


def test_every_kind_of_metric_is_kept_once(client):
    assert not send(client, everything()).HasField("partial_success")
    send(client, everything())
    told = {p.name: (p.n, p.total, p.is_cumulative) for p in points()}
    assert len(points()) == 5
    assert told == {
        "gen_ai.a": (3, 1.5, True), "gen_ai.b": (2, 4.0, False), "gen_ai.c": (0, 7.0, True),
        "gen_ai.d": (1, 0.25, False), "gen_ai.e": (4, 8.0, True),
    }  # fmt: skip
    assert points()[0].labels == {"gen_ai.request.model": "gpt"}
    assert (points()[0].at, points()[0].start_at) == (NOW // 1000, NOW // 1000 - 10**7)
    with reading() as session:
        assert session.exec(select(Generation)).all() == []
        assert session.exec(select(Rollup)).all() == []


def test_json_says_the_same(sqlite_client):
    times = {"startTimeUnixNano": str(NOW - 10**10), "timeUnixNano": str(NOW)}
    said = [{"key": "gen_ai.request.model", "value": {"stringValue": "gpt"}}]
    metrics = [
        {"name": "gen_ai.a", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {**times, "count": "3", "sum": 1.5, "attributes": said}]}},
        {"name": "gen_ai.c", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [
            {**times, "asInt": "7", "attributes": said}]}},
        {"name": "gen_ai.d", "gauge": {"dataPoints": [{**times, "asDouble": 0.25}]}},
        {"name": "gen_ai.broken", "gauge": {"dataPoints": [{**times, "asDouble": "NaN"}, {"asInt": []}]}},
    ]  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]}
    answer = sqlite_client.post("/v1/metrics", json=body)
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "2"
    in_json = {p.name: p.stream for p in points()}
    send(sqlite_client, everything())
    assert in_json.keys() == {"gen_ai.a", "gen_ai.c", "gen_ai.d"}
    assert len(points()) == 5  # the same points over the other encoding are the same points
    assert in_json.items() <= {p.name: p.stream for p in points()}.items()


def test_other_metrics_and_impossible_points_are_refused_in_words(sqlite_client):
    made, metrics = request()
    times = {"time_unix_nano": NOW}
    metrics.add(name="http.server.duration").histogram.data_points.add(count=3, **times)
    gauge = metrics.add(name="gen_ai.x").gauge
    gauge.data_points.add(as_double=float("nan"), **times)
    gauge.data_points.add(as_double=1.0)  # no moment
    gauge.data_points.add(as_double=2.0, **times)
    told = send(sqlite_client, made).partial_success
    assert told.rejected_data_points == 3
    assert "http.server.duration" in told.error_message
    assert "no finite number" in told.error_message
    assert [p.total for p in points()] == [2.0]
    with reading() as session:
        assert [(i.reason, i.n) for i in session.exec(select(Intake))] == [("metrics", 3)]
    assert sqlite_client.post("/v1/metrics", content=b"", headers=PROTOBUF).content == b""
    assert sqlite_client.post("/v1/metrics", content=b"\xff\xff", headers=PROTOBUF).status_code == 400


def test_two_processes_of_one_app_are_two_streams(sqlite_client):
    for start in (1, 2):
        made, metrics = request()
        told = metrics.add(name="gen_ai.a").sum
        told.aggregation_temporality, told.is_monotonic = CUMULATIVE, True
        told.data_points.add(as_int=5, start_time_unix_nano=NOW - start * 10**9, time_unix_nano=NOW)
        send(sqlite_client, made)
    assert len({p.stream for p in points()}) == 2


def test_labels_are_bounded_and_hold_no_personal_data(sqlite_client):
    made, metrics = request()
    point = metrics.add(name="gen_ai.a").gauge.data_points.add(as_int=1, time_unix_nano=NOW)
    label(point, user="ana@example.org", **{f"k{n}": "x" * 1000 for n in range(50)})
    send(sqlite_client, made)
    (kept,) = points()
    assert len(kept.labels) <= 16
    assert all(len(value) <= 200 for value in kept.labels.values())
    assert "ana@" not in str(kept.labels)


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_the_series_says_what_was_added_whichever_way_it_was_sent(sqlite_client, temporality):
    from dashboard.metric_series import metric_names, metric_series

    grown = 0
    start = NOW - NOW % (60 * 10**9) - 600 * 10**9
    for minute, added in enumerate((3, 0, 5, 2)):
        grown += added
        made, metrics = request()
        told = metrics.add(name="gen_ai.tokens", unit="1").histogram
        told.aggregation_temporality = temporality
        n = grown if temporality == CUMULATIVE else added
        begun = start if temporality == CUMULATIVE else start + minute * 60 * 10**9
        at = start + minute * 60 * 10**9 + 30 * 10**9
        told.data_points.add(count=n, sum=n * 10.0, start_time_unix_nano=begun, time_unix_nano=at)
        send(sqlite_client, made)
    with reading() as session:
        (project_id,) = {p.project_id for p in points()}
        assert metric_names(session, project_id) == {"gen_ai.tokens": "1"}
        first = start // 1000
        whole = metric_series(session, project_id, "gen_ai.tokens", first, now_us(), MINUTE)
        late = metric_series(session, project_id, "gen_ai.tokens", first + 2 * MINUTE, now_us(), MINUTE)
    assert [(span.n, span.total) for span in whole] == [(3, 30.0), (0, 0.0), (5, 50.0), (2, 20.0)]
    assert [span.n for span in late] == [5, 2]
    assert whole[0].mean == 10.0


def test_metrics_obey_the_same_room_as_calls(sqlite_store, app_of):
    from fastapi.testclient import TestClient

    from collector.core import Collector

    with TestClient(app_of(Collector(Budget(room=10)))) as client:
        answer = client.post("/v1/metrics", content=everything().SerializeToString(), headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
