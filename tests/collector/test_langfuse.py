"""What Langfuse's SDKs send beside spans."""

import base64

import pytest

from driftline.store.engine import writing
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import Feedback, Intake
from tests.collector.spans import rows

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def basic(name: str, key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()}


def score(**more):
    return {"traceId": TRACE, "observationId": SPAN, "name": "helpful", "value": 0.5} | more


def stored():
    return [(f.generation_id, f.name, f.value, f.label) for f in rows(Feedback)]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (score(), (TRACE + SPAN, "helpful", 0.5, None)),
        (score(value=1, dataType="BOOLEAN"), (TRACE + SPAN, "helpful", 1.0, None)),
        (score(value="rude", dataType="CATEGORICAL"), (TRACE + SPAN, "helpful", None, "rude")),
        (score(value="Berlin", dataType="CORRECTION", name="any"), (TRACE + SPAN, "expected", None, "Berlin")),
        (score(observationId=None), (TRACE, "helpful", 0.5, None)),
    ],
)
def test_a_score_becomes_feedback_of_its_call(sqlite_client, sent, expected):
    answer = sqlite_client.post("/api/public/scores", json=[sent])
    assert (answer.status_code, answer.json()["message"]) == (202, "Accepted")
    assert stored() == [expected]


def test_a_score_with_an_id_that_is_sent_again_is_stored_once(client):
    for _ in range(2):
        assert client.post("/api/public/scores", json=score(id="s-1")).status_code == 202
    assert len(rows(Feedback)) == 1


@pytest.mark.parametrize(
    "bad",
    [score(traceId=None), score(value=None), score(name=""), score(value=[1]), "text", 7, score(id="x" * 65),
     score(observationId=7), {"sessionId": "s", "name": "n", "value": 1}],
)  # fmt: skip
def test_a_score_that_cannot_be_stored_is_refused_alone_and_in_words(sqlite_client, bad):
    answer = sqlite_client.post("/api/public/scores", json=[bad, score()])
    assert answer.status_code == 207
    told = answer.json()
    assert (told["accepted"], told["rejected"]) == (1, 1)
    assert told["errors"][0]["message"]
    assert len(stored()) == 1
    assert [(i.reason, i.n) for i in rows(Intake)] == [("rejected", 1)]


def test_older_sdks_send_scores_as_events(sqlite_client):
    batch = [
        {"id": "e1", "type": "score-create", "timestamp": "2026-11-25T10:00:00Z", "body": score(id="s-1")},
        {"id": "e2", "type": "trace-create", "timestamp": "2026-11-25T10:00:00Z", "body": {"id": TRACE}},
        "text",
    ]
    answer = sqlite_client.post("/api/public/ingestion", json={"batch": batch, "metadata": {}})
    assert answer.status_code == 207
    told = answer.json()
    assert told["successes"] == [{"id": "e1", "status": 201}]
    assert [(e["id"], e["status"]) for e in told["errors"]] == [("e2", 400), ("2", 400)]
    assert "trace-create" in told["errors"][0]["message"]
    assert len(stored()) == 1


@pytest.mark.parametrize("path", ["/api/public/scores", "/api/public/ingestion"])
@pytest.mark.parametrize("body", [b"", b"{", b"7", b'{"batch": 7}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_score_is_refused_as_a_whole(sqlite_client, path, body):
    assert sqlite_client.post(path, content=body).status_code in (207, 422)
    assert stored() == []


def test_the_second_of_two_keys_opens_the_project(sqlite_client):
    with writing() as session:
        key = create_key(session, ensure_project(session, "shop"), "app", ["ingest"], "test")
    told = sqlite_client.get("/api/public/projects", headers=basic("pk-lf-1", key))
    assert told.json()["data"][0]["name"] == "shop"
    for wrong in (basic("pk-lf-1", "sk-lf-1"), basic(key, ""), {"authorization": "Basic %%%"}, {}):
        assert sqlite_client.post("/api/public/scores", json=[score()], headers=wrong).status_code == 401
        assert sqlite_client.post("/api/public/media", json={}, headers=wrong).status_code == 401
    assert stored() == []
    assert sqlite_client.post("/api/public/scores", json=[score()], headers=basic("pk", key)).status_code == 202


def test_where_nobody_has_a_key_basic_clients_may_make_theirs_up(sqlite_client):
    assert sqlite_client.post("/api/public/scores", json=[score()], headers=basic("pk", "sk")).status_code == 202
    wrong = {"authorization": "Bearer wrong"}
    assert sqlite_client.post("/api/public/scores", json=[score()], headers=wrong).status_code == 401


def test_no_upload_of_a_picture_is_asked_for(sqlite_client):
    asked = {
        "traceId": TRACE,
        "contentType": "image/png",
        "contentLength": 9,
        "field": "input",
        "sha256Hash": "a+b/" * 11,
    }
    answer = sqlite_client.post("/api/public/media", json=asked)
    assert (answer.status_code, answer.json()) == (201, {"mediaId": ("a-b_" * 11)[:22], "uploadUrl": None})
    for body in (b"", b"[]", b'{"sha256Hash": 5}'):
        assert sqlite_client.post("/api/public/media", content=body).status_code == 422
