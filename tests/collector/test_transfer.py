import csv
import json
import time

import pytest
from sqlmodel import select

from collector.files import read_items
from collector.transfer import export_records, import_file
from driftline.acts.formats.rows import documents
from driftline.errors import BadInput
from driftline.moment import DAY, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Bookmark, Generation, Variant


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


@pytest.fixture
def project(either_store) -> int:
    with writing() as session:
        return ensure_project(session).id


def lines(path, *items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def record(identity: str, **more):
    return {"id": identity, "started_at": "2015-05-01T12:00:00Z", "variant": "v", "output": "x"} | more


LANGFUSE = {
    "id": "obs-1", "traceId": "t1", "type": "GENERATION", "startTime": "2024-05-01T12:00:00.000Z",
    "endTime": "2024-05-01T12:00:01.500Z", "completionStartTime": "2024-05-01T12:00:00.250Z", "model": "gpt",
    "input": [{"role": "user", "content": "Capital?"}], "output": {"role": "assistant", "content": "Berlin"},
    "usageDetails": {"input": 5, "output": 1, "total": 6}, "calculatedTotalCost": 0.002, "level": "DEFAULT",
    "userId": "u",
}  # fmt: skip
PHOENIX = {
    "context.trace_id": "a" * 32, "context.span_id": "b" * 16, "span_kind": "LLM", "name": "call", "status_code": "OK",
    "start_time": "2024-05-01T12:00:00+00:00", "end_time": "2024-05-01T12:00:01.500000+00:00",
    "attributes.llm.model_name": "gpt", "attributes.llm.token_count.prompt": 5.0,
    "attributes.llm.token_count.completion": 1.0,
    "attributes.llm.input_messages": [{"message.role": "user", "message.content": "Capital?"}],
    "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "Berlin"}],
    "attributes.session.id": "t1", "attributes.user.id": "u",
}  # fmt: skip
OPENAI = {
    "timestamp": 1714564800, "duration_ms": 1500,
    "request": {"model": "gpt", "messages": [{"role": "user", "content": "Capital?"}], "user": "u"},
    "response": {
        "id": "chatcmpl-1", "model": "gpt",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Berlin"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1},
    },
}  # fmt: skip
BATCH_LINE = {
    "custom_id": "request-1", "body": OPENAI["request"],
    "response": {"status_code": 200, "body": OPENAI["response"] | {"created": 1714564800}},
}  # fmt: skip


@pytest.mark.parametrize(
    "item", [LANGFUSE, PHOENIX, OPENAI, BATCH_LINE], ids=["langfuse", "phoenix", "openai", "batch"]
)
def test_exports_of_other_systems_are_recognised(project, tmp_path, item):
    done = import_file(lines(tmp_path / "log.jsonl", item), project)
    assert (done.accepted, done.rejected, done.reasons) == (1, 0, [])
    (row,) = rows()
    assert json.loads(row.input) == [{"role": "user", "content": "Capital?"}]
    assert (row.output, row.model, row.input_tokens, row.output_tokens, row.user_id) == ("Berlin", "gpt", 5, 1, "u")
    assert row.started_at == 1714564800_000000
    assert row.latency_ms == (None if item is BATCH_LINE else 1500)
    if item is LANGFUSE:
        assert (row.ttft_ms, row.cost_nano, row.session_id) == (250, 2_000_000, "t1")


def test_instructions_tool_calls_and_tokens_from_a_cache_come_with_the_call(project, tmp_path):
    called = {"type": "function_call", "call_id": "1", "name": "find", "arguments": "{}"}
    spent = {"input_tokens": 21, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 16}}
    output = [{"type": "reasoning", "summary": []}, called]
    response = {"id": "resp-1", "model": "gpt", "output": output, "usage": spent}
    request = {"model": "gpt", "instructions": "Be brief.", "input": "Capital?"}
    usage = {"input": 5, "input_cache_read": 16, "output": 2, "total": 23}
    observation = LANGFUSE | {"input": {"input": "Capital?", "instructions": "Be brief."}, "output": [called]}
    import_file(lines(tmp_path / "a.jsonl", OPENAI | {"request": request, "response": response}), project)
    import_file(lines(tmp_path / "b.jsonl", observation | {"usageDetails": usage}), project)
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
    assert [json.loads(row.input) for row in rows()] == [said, said]
    assert {(row.output, row.input_tokens, row.output_tokens) for row in rows()} == {("[tool call find({})]", 21, 2)}


def test_other_observations_are_counted_and_bad_ones_said(project, tmp_path):
    file = lines(
        tmp_path / "log.jsonl", LANGFUSE, LANGFUSE | {"id": "2", "type": "SPAN"}, LANGFUSE | {"id": None},
        LANGFUSE | {"id": "4", "startTime": "soon"},
    )  # fmt: skip
    done = import_file(file, project)
    assert (done.read, done.accepted, done.other, done.rejected) == (4, 1, 1, 2)
    assert done.reasons[0].startswith("item 3: the item has no id")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_what_was_exported_can_be_imported_again(project, tmp_path, suffix):
    sent = [
        record(
            f"r{n}", input=[{"role": "user", "content": f"Q{n} ü"}], latency_ms=1.5, input_tokens=n, cost_usd=0.25,
            tags={"a": "b"}, session_id="s", sample_rate=0.5, status="aborted" if n % 2 else "ok",
        )
        for n in range(1200)
    ]  # fmt: skip
    import_file(lines(tmp_path / "in.jsonl", *sent), project)
    before = {row.id: row.model_dump(exclude={"seq", "received_at", "project_id", "variant_id"}) for row in rows()}
    out = tmp_path / f"out{suffix}"
    assert export_records(project, out) == 1200
    with writing() as session:
        other = ensure_project(session, "other").id
    done = import_file(out, other)
    assert (done.read, done.accepted, done.rejected) == (1200, 1200, 0)
    after = {
        row.id: row.model_dump(exclude={"seq", "received_at", "project_id", "variant_id"})
        for row in rows()
        if row.project_id == other
    }
    assert after == before


def test_an_export_can_be_narrowed(project, tmp_path):
    import_file(
        lines(tmp_path / "in.jsonl", record("a"), record("b", variant="w"), record("c", started_at=time.time())),
        project,
    )
    assert export_records(project, tmp_path / "one.csv", variant="w") == 1
    assert export_records(project, tmp_path / "two.csv", since=now_us() - DAY) == 1
    with (tmp_path / "one.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["b"]


def test_an_import_that_was_broken_off_goes_on_where_it_was(project, tmp_path):
    file = lines(tmp_path / "in.jsonl", *(record(f"r{n}") for n in range(1700)))

    class PowerCut(Exception):
        pass

    def cut(done):
        if done.read >= 1000:
            raise PowerCut

    with pytest.raises(PowerCut):
        import_file(file, project, progress=cut)
    assert len(rows()) == 1000
    seen = []
    done = import_file(file, project, progress=lambda done: seen.append(done.read))
    assert (seen, done.accepted, done.duplicates) == ([1500, 1700], 700, 0)
    assert len(rows()) == 1700
    assert rows(Bookmark) == []
    again = import_file(file, project)
    assert (again.accepted, again.duplicates) == (0, 1700)


def test_an_import_refuses_what_no_file_can_mend_in_its_own_words(sqlite_store, tmp_path):
    with writing() as session:
        project = ensure_project(session).id
    moments = ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z")
    items = [record(f"r{number}", started_at=moment) for number, moment in enumerate(moments)]
    done = import_file(lines(tmp_path / "a.jsonl", *items, {"id": "c", "started_at": 1.7e9}), project)
    assert (done.accepted, done.rejected) == (0, 3)
    assert all("calls from 2000 to a day ahead are imported" in reason for reason in done.reasons[:2])
    assert done.reasons[2] == "item 3: one of output and error is required"


def test_a_file_that_cannot_be_read_is_refused_in_words(sqlite_store, tmp_path):
    with writing() as session:
        project = ensure_project(session).id
    (tmp_path / "broken.jsonl").write_text('{"id": 1}\n{"id"')
    (tmp_path / "list.json").write_text("[1]")
    lines(tmp_path / "strange.jsonl", {"colour": "red"})
    (tmp_path / "latin.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    (tmp_path / "latin.csv").write_bytes("id,output\né,x\n".encode("latin-1"))
    (tmp_path / "wide.csv").write_text("id,started_at,output\n1,2024-01-01T00:00:00Z,a,b\n")
    (tmp_path / "five.json").write_text("5")
    (tmp_path / "torn.parquet").write_text("PAR1")
    expected = {
        "latin.jsonl": "not UTF-8", "latin.csv": "not UTF-8", "wide.csv": "line 2: the header has 3 columns",
        "five.json": "item 1: an item is an object", "torn.parquet": "not Parquet",
        "broken.jsonl": "line 2", "list.json": "item 1", "strange.jsonl": "no known kind", "x.xml": "ends in .xml",
        "none.csv": "cannot be read: No such file",
    }  # fmt: skip
    for name, word in expected.items():
        with pytest.raises(BadInput, match=word):
            import_file(tmp_path / name, project)


def test_a_json_file_of_an_api_answer_is_read(sqlite_store, tmp_path):
    with writing() as session:
        project = ensure_project(session).id
    (tmp_path / "page.json").write_text(json.dumps({"data": [LANGFUSE], "meta": {"page": 1}}))
    assert import_file(tmp_path / "page.json", project).accepted == 1
    assert rows(Variant)[0].name == "gpt"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"input": "x"}\n{"input" 1}', "line 2: not JSON (Expecting ':' delimiter at column 10)."),
        ("a.jsonl", b"[1]", "line 1: an item is a JSON object."),
        ("a.json", b'[{"input": "x"}, 5]', "item 2: an item is an object."),
        ("a.csv", b"input,expected\nx\n", "line 2: the header has 2 columns, this row has not."),
        ("a.parquet", b"PAR1", "the file: not Parquet"),
        ("a.jsonl", b'{"input": "\xe9"}', "is not UTF-8 (byte 11). Save it as UTF-8."),
    ],
)
def test_calls_and_golden_sets_say_the_same_of_a_broken_file(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    for read in (read_items, documents):
        with pytest.raises(BadInput) as refused:
            list(read(tmp_path / name))
        assert says in refused.value.message
