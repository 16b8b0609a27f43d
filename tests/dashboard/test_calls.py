"""Single calls, and the calls of a session or trace in the order they were made."""

import json
import re

import pytest
from sqlmodel import select

from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.hashing import sample_key
from driftline.store.tables import ClientCount, Feedback, Generation, Variant

TRACE = "0af7651916cd43dd8448eb211c80319c"


def add(identity: str, at: int, **more) -> int:
    """A stored call; its seq."""
    with writing() as session:
        variant = session.exec(select(Variant).order_by(Variant.id)).first()
        row = Generation(
            project_id=variant.project_id, id=identity, started_at=at, received_at=at, variant_id=variant.id,
            sample_key=sample_key(identity), tags={}, **more,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.seq


def told(*messages: tuple[str, str]) -> str:
    return json.dumps([{"role": role, "content": content} for role, content in messages])


@pytest.fixture
def conversation(seeded) -> list[int]:
    """A conversation of three calls of one trace, stored in another order than it was held."""
    now = now_us()
    first, second = ("user", "Who are you?"), ("assistant", "A clerk.")
    third, fourth = ("user", "What <b>do</b> you sell?"), ("assistant", "Nails.")
    all_of_it = told(first, second, third, fourth, ("user", "How much?"))
    last = add(f"{TRACE}{3:016x}", now, input=all_of_it, output="1 cent",
               session_id="s/7", user_id="u-9", status="error", error="cut off")  # fmt: skip
    start = add(
        f"{TRACE}{1:016x}", now - 2_000_000, input=told(first), output="A clerk.", session_id="s/7", user_id="u-9"
    )
    middle = add(
        f"{TRACE}{2:016x}", now - 1_000_000, input=told(first, second, third), output="Nails.", session_id="s/7"
    )
    add("elsewhere", now, input=told(first), output="Nobody.", session_id="s/8")
    return [start, middle, last]


@pytest.mark.parametrize("path", ["/conversations/s/7", f"/traces/{TRACE}"])
def test_a_conversation_is_shown_whole_and_in_order(client, conversation, path):
    html = client.get(path).text
    places = [
        html.index(text) for text in ("Who are you?", "A clerk.", "What &lt;b&gt;do", "Nails.", "How much?", "1 cent")
    ]
    assert places == sorted(places)
    assert html.count("Who are you?") == 1  # what apps send again with every call is left out
    assert "Nobody." not in html
    assert [int(seq) for seq in re.findall(r'id="call-(\d+)"', html)] == conversation
    assert "cut off" in html


def test_a_conversation_or_trace_that_is_not_there_is_said(client, seeded):
    for path in ("/conversations/none", f"/traces/{'0' * 32}", "/generations/999999"):
        assert client.get(path).status_code == 404


def test_a_call_is_shown_with_what_was_said_of_it(client, conversation):
    with writing() as session:
        project_id = session.get_one(Generation, conversation[0]).project_id
        for identity, of, name, value, label in (
            ("f1", f"{TRACE}{1:016x}", "thumbs", 1.0, None), ("f2", f"{TRACE}{1:016x}", "expected", None, "Bob."),
            ("f3", TRACE, "tone", None, "friendly"),
        ):  # fmt: skip
            session.add(
                Feedback(
                    project_id=project_id, id=identity, generation_id=of, name=name, value=value, label=label,
                    received_at=now_us(),
                )
            )  # fmt: skip
    html = client.get(f"/generations/{conversation[0]}").text
    assert all(text in html for text in ("Who are you?", "A clerk.", "thumbs", "Bob.", "friendly", "u-9"))
    assert f'href="/traces/{TRACE}"' in html
    assert 'href="/conversations/s/7"' in html
    assert "friendly" in client.get(f"/traces/{TRACE}").text


def test_a_text_that_is_absent_or_kept_elsewhere_is_shown_as_such(client, seeded):
    now = now_us()
    absent = add("absent", now, input_chars=812)
    elsewhere = add("elsewhere", now)
    with writing() as session:
        session.get_one(Generation, elsewhere).tags = {"input_ref": "s3://bucket/prompt.json"}
    html = client.get(f"/generations/{absent}").text
    assert "No text" in html
    assert "812 characters" in html
    assert "s3://bucket/prompt.json" in client.get(f"/generations/{elsewhere}").text


def test_calls_are_listed_and_narrowed(client, conversation):
    with reading() as session:
        variant = session.exec(select(Variant).order_by(Variant.id)).first()
    assert client.get("/generations").status_code == 200
    narrowed = client.get("/generations", params={"user": "u-9", "status": "error", "variant": variant.name}).text
    assert re.findall(r'href="/generations/(\d+)"', narrowed) == [str(conversation[2])]
    assert "No call fits" in client.get("/generations?user=nobody").text


def test_the_api_narrows_calls(client, conversation):
    def asked(**narrow):
        return [row["seq"] for row in client.get("/api/generations", params=narrow).json()["items"]]

    newest_first = conversation[::-1]
    assert asked(session="s/7") == asked(trace=TRACE) == newest_first
    assert asked(session="s/7", status="error") == conversation[2:]
    assert asked(user="u-9") == [conversation[2], conversation[0]]
    assert client.get("/api/generations", params={"status": "fine"}).status_code == 422
    assert client.get("/api/generations", params={"trace": "g" * 32}).status_code == 422


def test_the_captured_share_of_each_variant_is_told_with_the_reasons(client, seeded):
    with writing() as session:
        variant = session.exec(select(Variant).order_by(Variant.id)).first()
        name, project_id = variant.name, variant.project_id
        for reason, n in (("queue_full", 30), ("sampled_out", 10), ("queue_full", 5)):
            session.add(
                ClientCount(project_id=project_id, client=f"c{n}", variant=name, reason=reason, n=n, updated_at=0)
            )
    counts = client.get("/api/counts").json()
    (one,) = [v for v in counts["variants"] if v["variant"] == name]
    assert (one["dropped"]["queue_full"], one["sampled_out"]) == (35, 10)
    known = one["generations"] + sum(one["dropped"].values()) + one["sampled_out"]
    assert one["captured_share"] == pytest.approx(one["generations"] / known)
    assert sum(v["generations"] for v in counts["variants"]) == counts["generations"]
    assert "queue full" in client.get(f"/variants/{name}").text
