"""Who may even ask: rebinding names and other sites' pages get nowhere, programs with keys do."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

FORM = {"reason": ""}


def test_a_rebound_host_name_is_refused(seeded: Any, client: TestClient) -> None:
    for path in ("/", "/api/variants", "/static/app.css"):
        answer = client.get(path, headers={"host": "attacker.example:8400"})
        assert answer.status_code == 400
        assert "DRIFTLINE_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8400", "localhost", "LOCALHOST:1", "[::1]:8400"])
def test_loopback_names_are_served(host: str, seeded: Any, client: TestClient) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["", "]", "[::1", "127.0.0.1.attacker.example", "a b"])
def test_broken_host_headers_are_refused(host: str, seeded: Any, client: TestClient) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


def test_machines_may_ask_for_health_by_address(seeded: Any, client: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path, headers={"host": "10.1.2.3:8400"}).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://attacker.example"},
        {"sec-fetch-site": "same-site", "origin": "http://other.127.0.0.1:8400"},
        {"sec-fetch-site": "none"},
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {},
    ],
)
def test_a_click_on_another_sites_page_does_nothing(said: dict[str, str], seeded: Any, client: TestClient) -> None:
    answer = client.post(f"/reoptimizations/{seeded.ids['proposed']}/approve", data=FORM, headers=said)

    assert answer.status_code == 403
    shown = client.get(f"/api/reoptimizations/{seeded.ids['proposed']}").json()
    assert shown["state"] == "proposed"


@pytest.mark.parametrize("said", [{"sec-fetch-site": "same-origin"}, {"origin": "http://127.0.0.1:8400"}])
def test_a_click_on_our_own_page_counts(said: dict[str, str], seeded: Any, client: TestClient) -> None:
    answer = client.post(f"/reoptimizations/{seeded.ids['proposed']}/approve", data=FORM, headers=said)

    assert answer.status_code == 303


RECORD = {"records": [{"id": "forged", "started_at": "2026-11-25T09:00:00Z", "output": "x"}]}


@pytest.mark.parametrize("dashboard", [True, False])
@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 200),
        ({"host": "10.1.2.3:8400"}, 200),  # a program asks by address
        ({"origin": "https://attacker.example", "content-type": "text/plain"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "attacker.example", "origin": "http://attacker.example"}, 400),  # its name rebound to this machine
        ({"host": "attacker.example", "sec-fetch-site": "same-origin"}, 400),
    ],
)
def test_the_collector_takes_records_of_programs_and_of_no_other_sites_page(
    store: Any, dashboard: bool, said: dict[str, str], status: int
) -> None:
    from driftline.access import forget_callers
    from driftline.cli.web import application

    forget_callers()
    with TestClient(application(collector=True, dashboard=dashboard), base_url="http://127.0.0.1:8400") as client:
        assert client.post("/v1/records", content=json.dumps(RECORD), headers=said).status_code == status


def test_the_api_takes_programs_but_no_forged_requests(seeded: Any, client: TestClient) -> None:
    path = f"/api/alerts/{seeded.ids['alert']}/acknowledge"

    assert client.post(path, headers={"origin": "https://attacker.example"}).status_code == 403
    assert client.post(path).status_code == 200


def test_every_answer_shuts_the_page_off_from_the_world(seeded: Any, client: TestClient) -> None:
    headers = client.get("/").headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self';" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


def test_the_report_runs_in_a_sandbox_of_its_own(seeded: Any, client: TestClient) -> None:
    answer = client.get(f"/drift-events/{seeded.ids['event']}/report")

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy


def test_static_files_are_cached_for_good_under_their_hash(seeded: Any, client: TestClient) -> None:
    from dashboard.assets import url

    answer = client.get(url("plotly.min.js"), headers={"accept-encoding": "gzip"})

    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    again = client.get(url("plotly.min.js"), headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" not in client.get("/static/app.css?v=old").headers["cache-control"]


@pytest.mark.parametrize("name", ["../pages/login.py", "..%2f..%2fpyproject.toml", "nothing.css", "%2e%2e/guard.py"])
def test_only_known_files_are_served(name: str, seeded: Any, client: TestClient) -> None:
    assert client.get(f"/static/{name}").status_code == 404
