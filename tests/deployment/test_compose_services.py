"""The services of compose.yaml as real processes on a real PostgreSQL and RabbitMQ, through the whole journey."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parent))
from installation import PATIENCE_S, Installation, own_broker, own_database

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
SERVICES = ("collector", "dashboard", "worker", "checker", "notifier", "clock")
ITEMS = 300
STOP_S = 20.0
PAUSE_S = 0.5  # between two requests: a small machine shall keep up with scoring and checking
SETTINGS = {"DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS": "true", "DRIFTLINE_BLOCK_S": "2", "WORKERS": "2"}
SECRETS = dict.fromkeys(("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "DRIFTLINE_SECRET_KEY"), "a1b2c3")
PAGES = ("/", "/variants", "/comparisons", "/drift-events", "/alerts", "/reoptimizations", "/monitors", "/jobs")

STATE = (
    "SELECT name, status FROM monitor",
    "SELECT monitor_id, state, cause FROM drift_event",
    "SELECT happening, state, response FROM notification",
    "SELECT kind, queue, state, attempt, note, error FROM job WHERE state <> 'done'",
    "SELECT name, count FROM (SELECT evaluator AS name, count(*) AS count FROM score GROUP BY 1) AS scored",
)


def wait_for(condition: Callable[[], Any], what: str, rows: Callable[[str], list[Any]] | None = None) -> Any:
    """What the condition gives once it is true; fails with what was waited for and what the database says meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    seen = [f"{query}: {rows(query)}" for query in STATE] if rows is not None else []
    raise AssertionError("\n".join([f"not within {PATIENCE_S:.0f} s: {what}", *seen]))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with own_database() as url:
        yield url


@pytest.fixture(scope="module")
def installation(
    raw_compose: dict[str, Any], fill: Any, env_example: dict[str, str], database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:  # fmt: skip
    variables = env_example | SECRETS | SETTINGS | {"DRIFTLINE_PUBLIC_URL": "http://127.0.0.1"}
    with own_broker() as broker:
        made = Installation(fill(raw_compose["services"], variables), tmp_path_factory.mktemp("host"), database, broker)
        yield made
        made.close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Any]:
    from driftline.cli.demo.receiver import Receiver

    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def key(installation: Installation) -> str:
    """The first key, made by the service `setup` after the collector has refused to start without one."""
    early = installation.run("collector", loopback=False)
    assert early.returncode != 0
    assert len(early.stderr.splitlines()) == 1
    assert "nobody has a key yet" in early.stderr
    first = installation.run("setup")
    assert first.returncode == 0, first.stderr
    again = installation.run("setup")
    assert (again.returncode, again.stdout) == (0, "There is a key already; none was made.\n")
    made = first.stdout.splitlines()[0]
    assert made.startswith("dl_")
    return made


@pytest.fixture(scope="module")
def running(installation: Installation, key: str) -> Installation:
    """All services, two of the worker, healthy by their own health checks."""
    for name in SERVICES:
        installation.start(name)
    installation.start("worker", 2)
    for name in SERVICES:
        wait_for(lambda name=name: installation.healthy(name), f"{name} is healthy")
    return installation


@pytest.fixture(scope="module")
def watched(running: Installation, receiver: Any) -> Installation:
    """Two quick monitors on the route, before it exists and gets the default ones, and Slack told of drift."""
    running.tell("worker", "alert", "channel", "slack", "--kind", "slack", "--url", receiver.url)
    shared = ("--route", "qa", "--reference-items", "200", "--reference-s", "0")
    running.tell("worker", "monitor", "add", "qa/right", "--signal", "quality", "--source", "contains", *shared)
    running.tell("worker", "monitor", "add", "qa/latency", "--signal", "latency", *shared)
    return running


@pytest.fixture(scope="module")
def collector(running: Installation, key: str) -> Iterator[httpx.Client]:
    address = f"http://127.0.0.1:{running.ports['collector']}"
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def dashboard(running: Installation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{running.ports['dashboard']}", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def rows(database: str) -> Iterator[Callable[[str], list[Any]]]:
    """Reads the installation's database."""
    engine = create_engine(database)

    def read(query: str) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))

    yield read
    engine.dispose()


def traffic(seed: int, variant: str, right: float, ms: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Twenty records of an app, and their true answers as feedback."""
    rng = random.Random(f"{variant}{seed}")
    records, truths = [], []
    for place in range(20):
        truth = rng.choice(("Paris", "1848", "the Danube", "yes"))
        name = f"{variant}-{seed}-{place}"
        records.append(
            {"id": name, "started_at": time.time(), "variant": variant, "tags": {"route": "qa"},
             "input": f"Question {rng.random()}?", "output": truth if rng.random() < right else "I do not know that.",
             "latency_ms": ms * rng.lognormvariate(0, 0.3), "input_tokens": 40, "output_tokens": 3}
        )  # fmt: skip
        truths.append({"id": f"truth-{name}", "generation_id": name, "name": "expected", "value": truth})
    return records, truths


def test_records_need_the_key(collector: httpx.Client) -> None:
    records, _ = traffic(0, "nobody", 1.0, 1.0)
    body = {"records": records}
    assert collector.post("/v1/records", json=body, headers={"authorization": ""}).status_code == 401
    assert collector.post("/v1/records", json=body, headers={"authorization": "Bearer dl_wrong"}).status_code == 401


def test_two_workers_replay_two_variants_and_the_worse_one_is_found(
    watched: Installation, dashboard: httpx.Client, key: str, tmp_path: Path, rows: Callable[[str], list[Any]]
) -> None:
    questions = [f"Which number is {n}?" for n in range(ITEMS)]
    golden = tmp_path / "numbers.jsonl"
    golden.write_text(
        "\n".join(json.dumps({"input": asked, "expected": str(n)}) for n, asked in enumerate(questions)),
        encoding="utf-8",
    )
    assert watched.tell("worker", "golden", "import", str(golden), "--name", "numbers")["items"] == ITEMS
    for name, wrong_of_ten in (("base", 1), ("int8", 6)):
        answers = tmp_path / f"{name}.jsonl"
        answers.write_text(
            "\n".join(
                json.dumps({"prompt": asked, "answer": str(n) if n % 10 >= wrong_of_ten else "no idea"})
                for n, asked in enumerate(questions)
            ),
            encoding="utf-8",
        )
        config = json.dumps({"path": str(answers)})
        watched.tell("worker", "variant", "add", name, "--runner", "recorded", "--config", config)
    watched.tell("worker", "variant", "promote", "base", "--route", "qa", "--baseline")
    wish = {"variant": "int8", "golden": "numbers", "baseline": "base", "scorers": ["contains", "token_f1"]}
    permitted = {"authorization": f"Bearer {key}"}
    asked = dashboard.post("/api/replays", json=wish, headers=permitted)
    assert asked.status_code in (200, 201, 202), asked.text
    wait_for(lambda: rows("SELECT count(*) FROM comparison") == [(2,)], "the comparison by both scorers", rows)
    judged = dashboard.get("/api/comparisons", headers=permitted).json()["items"]
    assert {row["evaluator"]: row["verdict"] for row in judged} == {"contains": "worse", "token_f1": "worse"}
    assert rows("SELECT replay_id, count(*) FROM answer GROUP BY replay_id ORDER BY 1") == [(1, ITEMS), (2, ITEMS)]
    assert {name for (name,) in rows("SELECT name FROM process WHERE name LIKE 'worker%'")} == {
        "worker", "worker-2", "worker-checks", "worker-notices",
    }  # fmt: skip


def test_drift_is_found_told_and_a_repair_proposed(
    watched: Installation, collector: httpx.Client, dashboard: httpx.Client, key: str, receiver: Any,
    rows: Callable[[str], list[Any]],
) -> None:  # fmt: skip
    sent = 0

    def send(variant: str, right: float, ms: float) -> None:
        nonlocal sent
        records, truths = traffic(sent, variant, right, ms)
        answer = collector.post("/v1/records", json={"records": records})
        assert answer.json() == {"accepted": 20, "duplicates": 0, "rejected": []}
        assert collector.post("/v1/feedback", json={"feedback": truths}).status_code == 200
        sent += 20
        time.sleep(PAUSE_S)

    def watching() -> bool:
        send("base", 0.85, 400.0)
        return rows("SELECT count(*) FROM monitor WHERE status <> 'collecting'") == [(2,)]

    def told() -> bool:
        send("int8", 0.35, 900.0)
        return rows("SELECT count(*) FROM notification WHERE state = 'sent'") == [(2,)]

    def proposed() -> list[Any]:
        answer = dashboard.get("/api/reoptimizations", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        return [row for row in answer.json()["items"] if row["state"] == "proposed"]

    wait_for(watching, "both references", rows)
    assert rows("SELECT count(*) FROM drift_event") == [(0,)]
    wait_for(told, "both drifts are told", rows)
    assert len(wait_for(proposed, "a proposal", rows)) == 1
    assert len({note["key"] for note in receiver.received}) == 2
    assert rows("SELECT count(*) FROM generation") == [(sent,)]


def test_pages_ask_for_a_session_and_answer_with_one(dashboard: httpx.Client, key: str) -> None:
    for page in PAGES:
        refused = dashboard.get(page)
        assert refused.status_code in (303, 401), page
    address = str(dashboard.base_url).rstrip("/")
    entered = dashboard.post("/login", data={"key": key}, headers={"origin": address})
    assert entered.status_code == 303
    for page in PAGES:
        answer = dashboard.get(page)
        assert answer.status_code == 200, page
        assert "<html" in answer.text


def test_all_end_cleanly_and_quickly(running: Installation) -> None:
    for process in running.running.values():
        process.terminate()
    deadline = time.monotonic() + STOP_S
    codes = {name: process.wait(max(0.1, deadline - time.monotonic())) for name, process in running.running.items()}
    assert codes == dict.fromkeys(codes, 0), {name: running.log(name) for name, code in codes.items() if code}
    for name in codes:
        assert "Traceback" not in running.log(name), running.log(name)
