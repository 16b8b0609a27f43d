"""Forms of a golden set's page: budgets, coverage, drafts, and items from traffic that people chose."""

import json
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.testclient import TestClient

from driftline.acts.golden import canonical, import_items
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Coverage, Generation, GoldenItem, GoldenSet, GoldenVersion, Job, Replay, Schedule

CLICK = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}
KINDS = ("added", "removed", "changed")
SECRET = "Write to ana@example.org, what is the capital of Chad?"


@pytest.fixture
def version(seeded: Any) -> GoldenVersion:
    """The newest version of the seeded set."""
    with reading() as session:
        of_set = select(GoldenVersion).join(GoldenSet, col(GoldenSet.id) == GoldenVersion.golden_set_id)
        return session.exec(
            of_set.where(GoldenSet.name == "capitals").order_by(col(GoldenVersion.id).desc()).limit(1)
        ).one()


@pytest.fixture
def call(seeded: Any) -> str:
    """The id of a call that holds an address."""
    with writing() as session:
        row = session.exec(select(Generation).where(Generation.status == "ok").limit(1)).one()
        row.input, row.started_at, row.sample_key = SECRET, now_us(), -(2**63)
        session.add(row)
        return row.id


def test_a_replay_keeps_the_budget_of_its_form(seeded: Any, version: GoldenVersion, client: TestClient) -> None:
    form = {"variant": "smollm2-int8", "golden_set": "capitals", "baseline": "smollm2-fp32", "calls": "5",
            "seconds": " 2.5", "usd": "", "tokens": "900", "joules": "12.5", "margin": "0.05",
            "early_stop": "1"}  # fmt: skip
    answer = client.post("/replays", data=form, headers=CLICK)
    assert answer.status_code == 303, answer.text
    with reading() as session:
        row = session.get_one(Replay, int(answer.headers["location"].rpartition("/")[2]))
    assert row.plan["budget"] == {"calls": 5.0, "seconds": 2.5, "tokens": 900.0, "joules": 12.5}
    assert row.plan["early_stop"]["margin"] == 0.05
    shown = client.get(answer.headers["location"]).text
    for limit in ("of 5<", "of 900<", "of 2.5<", "of 12.5<"):
        assert limit in shown


def test_a_replay_that_its_budget_ended_says_so_in_the_list(
    seeded: Any, version: GoldenVersion, client: TestClient
) -> None:
    with writing() as session:
        row = session.exec(select(Replay).where(Replay.golden_version_id == version.id)).all()[-1]
        row.stopped = "its budget of 900 tokens is spent"
        session.add(row)
    for page in ("/replays", f"/replays/{row.id}", f"/golden-sets/capitals?version={version.number}"):
        assert "its budget of 900 tokens is spent" in client.get(page).text


def test_the_form_schedules_a_replay_of_the_newest_version(
    seeded: Any, version: GoldenVersion, client: TestClient
) -> None:
    form = {"variant": "smollm2-int8", "golden_set": f"capitals@{version.number}", "baseline": "smollm2-fp32",
            "joules": "50", "early_stop": "1", "name": "nightly-small", "cron": "0 3 * * *"}  # fmt: skip
    answer = client.post("/schedules", data=form, headers=CLICK)
    assert answer.status_code == 303, answer.text
    with reading() as session:
        row = session.exec(select(Schedule).where(Schedule.name == "nightly-small")).one()
    assert row.args == {"variant": "smollm2-int8", "golden": "capitals", "baseline": "smollm2-fp32",
                        "budget": {"joules": 50.0}, "early_stop": True}  # fmt: skip
    assert "at most 50 joules" in client.get("/jobs").text


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"cron": ""}, "a name and a cron line"),
        ({"cron": "0 3 * *"}, "five fields"),
        ({"margin": "2"}, "below 1"),
        ({"margin": "wide"}, "a number such as 0.02"),
        ({"calls": "1.5"}, "calls are counted"),
        ({"variant": "nobody"}, "nobody"),
    ],
)
def test_a_schedule_that_could_never_run_is_refused(
    field: dict[str, str], says: str, seeded: Any, client: TestClient
) -> None:
    form = {"variant": "smollm2-int8", "golden_set": "capitals", "name": "n", "cron": "0 3 * * *"} | field
    answer = client.post("/schedules", data=form, headers=CLICK)
    assert answer.status_code in (404, 422)
    assert says in answer.text


@pytest.mark.parametrize("calls", ["many", "-1", "0", "nan"])
def test_a_budget_that_is_none_is_told(calls: str, seeded: Any, client: TestClient) -> None:
    form = {"variant": "smollm2-int8", "golden_set": "capitals", "calls": calls}
    answer = client.post("/replays", data=form, headers=CLICK)
    assert answer.status_code == 422
    assert "budget" in answer.text


def test_coverage_is_asked_for_from_the_page(version: GoldenVersion, client: TestClient) -> None:
    url = f"/golden-versions/{version.id}/coverage"
    assert client.post(url, data={"days": "soon"}, headers=CLICK).status_code == 422
    answer = client.post(url, data={"route": "default", "days": "3"}, headers=CLICK)
    assert answer.status_code == 303
    assert "being compared with traffic" in client.get(answer.headers["location"]).text
    with reading() as session:
        job = session.exec(select(Job).where(Job.kind == "golden.coverage")).one()
    assert job.args["golden_version_id"] == version.id
    assert job.args["route"] == "default"


def test_a_version_shows_what_it_changed(seeded: Any, version: GoldenVersion, client: TestClient) -> None:
    rivers = [canonical({"input": f"Which river is {n} long?", "expected": str(n)}) for n in range(9)]
    later = [*rivers[1:], canonical({"input": "Which <b>city</b> is new?"})]
    later[0] = later[0] | {"expected": ["quite another answer"]}
    with writing() as session:
        project = version_project(session, version)
        import_items(session, project, "rivers", rivers, "ann", source="test")
        newer, _ = import_items(session, project, "rivers", later, "ann", source="test")
    assert f"/golden-versions/{newer.id}/changes" in client.get("/golden-sets/rivers").text
    told = client.get(f"/golden-versions/{newer.id}/changes").text
    added, removed, changed = (told.split(f'<h2 id="{word}">')[1].split("</section>")[0] for word in KINDS)
    assert "Which &lt;b&gt;city&lt;/b&gt; is new?" in added
    assert "Which river is 0 long?" in removed
    assert "Which river is 1 long?" in changed
    assert added.count("<li") == removed.count("<li") == changed.count("<li") == 1


def test_the_first_version_changed_nothing(seeded: Any, version: GoldenVersion, client: TestClient) -> None:
    with reading() as session:
        of_set = select(GoldenVersion).where(GoldenVersion.golden_set_id == version.golden_set_id)
        first = session.exec(of_set.order_by(col(GoldenVersion.number))).first()
    assert first is not None
    assert client.get(f"/golden-versions/{first.id}/changes").status_code == 404


def test_drafts_are_a_file_and_hold_no_address(
    seeded: Any, version: GoldenVersion, call: str, client: TestClient
) -> None:
    url = f"/golden-versions/{version.id}/drafts"
    with writing() as session:
        for row in session.exec(select(Coverage)):
            session.delete(row)
    assert client.get(url).status_code == 404
    groups = [{"share": 0.2, "size": 9, "typical": ["?"], "generations": [call]}]
    with writing() as session:
        session.add(Coverage(
            project_id=version_project(session, version), golden_version_id=version.id, n_prompts=50, outside=0.2,
            low=0.1, high=0.3, expected=0.05, expected_high=0.1, groups=groups, created_at=now_us(), since=0, until=1,
            n_items=5, encoder="words", radius=0.5, sample_hash="",
        ))  # fmt: skip
    answer = client.get(url)
    assert answer.headers["content-disposition"] == 'attachment; filename="drafts.jsonl"'
    draft = json.loads(answer.text)
    assert "[email]" in json.dumps(draft["input"])
    assert draft["tags"]["uncovered"] == "group 1"


def version_project(session: Any, version: GoldenVersion) -> int:
    return int(session.get_one(GoldenSet, version.golden_set_id).project_id)


def test_calls_are_chosen_and_confirmed_before_they_become_items(
    version: GoldenVersion, call: str, client: TestClient
) -> None:
    shown = client.get(f"/golden-versions/{version.id}/from-traffic?limit=5&days=30").text
    assert "[email]" in shown
    assert "ana@example.org" not in shown
    assert f'value="{call}"' in shown
    url, form = f"/golden-versions/{version.id}/add", {"generation": [call]}
    refused = client.post(url, data=form, headers=CLICK)
    assert refused.status_code == 422
    assert "confirm" in refused.text
    answer = client.post(url, data=form | {"confirmed": "1"}, headers=CLICK)
    assert answer.status_code == 303
    assert "1 added." in client.get(answer.headers["location"]).text
    with reading() as session:
        newest = session.exec(select(GoldenVersion).order_by(col(GoldenVersion.id).desc())).first()
        assert newest is not None
        assert newest.number == version.number + 1
        texts = [item.messages[-1]["content"] for item in session.exec(
            select(GoldenItem).where(GoldenItem.version_id == newest.id)
        )]  # fmt: skip
    assert texts[-1] == SECRET.replace("ana@example.org", "[email]")
    again = client.post(url, data=form | {"confirmed": "1"}, headers=CLICK)
    assert "asks all 1 of these already" in again.text


@pytest.mark.parametrize("way", ["coverage", "add"])
def test_the_forms_are_closed_to_other_sites_and_reach_no_other_project(
    way: str, seeded: Any, version: GoldenVersion, call: str, client: TestClient
) -> None:
    form = {"generation": call, "confirmed": "1"}
    elsewhere = client.post(f"/golden-versions/{version.id}/{way}", data=form, headers={"origin": "https://a.example"})
    assert elsewhere.status_code == 403
    theirs = f"/golden-versions/{seeded.foreign_ids['golden-versions']}"
    assert client.post(f"{theirs}/{way}", data=form, headers=CLICK).status_code == 404
    assert client.get(f"{theirs}/from-traffic").status_code == 404
    assert client.get(f"{theirs}/drafts").status_code == 404
