"""Golden items come in as other tools wrote them, and go out as they came in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.acts.formats import read_items
from driftline.acts.golden import canonical
from driftline.errors import BadInput
from driftline.store.hashing import content_hash


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def asked(item: dict[str, Any]) -> str:
    return item["messages"][-1]["content"]


def test_csv_and_parquet_hold_the_same_items_as_json_lines(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    row = {"input": "Who?", "expected": ["me", "I"], "weight": 2.0, "tags": {"topic": "who"}, "cluster": "c"}
    plain = lines(tmp_path / "a.jsonl", row, {"input": "Where?", "expected": "here"})
    table = tmp_path / "a.csv"
    table.write_text(
        'input,expected,weight,tags.topic,cluster\nWho?,"[""me"", ""I""]",2,who,c\nWhere?,here,,,\n',
        encoding="utf-8-sig",
    )
    columns = tmp_path / "a.parquet"
    rows = [
        {"input": "Who?", "expected": ["me", "I"], "weight": 2.0, "tags.topic": "who", "cluster": "c"},
        {"input": "Where?", "expected": ["here"], "weight": None, "tags.topic": None, "cluster": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), columns)
    assert list(read_items(table)) == list(read_items(columns)) == list(read_items(plain))


def test_openai_evals(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Translate.", "name": "example_user"}, {"role": "user", "content": "Hund"}
    ]  # fmt: skip
    path = lines(
        tmp_path / "samples.jsonl",
        {"input": chat, "ideal": ["dog", "hound"]},
        {"item": {"input": "1+1?", "ideal": "2"}},
    )
    first, second = read_items(path, "openai-evals")
    assert [message["role"] for message in first["messages"]] == ["user", "user"]
    assert first["expected"] == ["dog", "hound"]
    assert (asked(second), second["expected"]) == ("1+1?", ["2"])
    assert len(list(read_items(lines(tmp_path / "b.jsonl", {"input": "x", "ideal": "y"})))) == 1
    assert len(list(read_items(lines(tmp_path / "c.jsonl", {"item": {"input": "x", "ideal": "y"}})))) == 1


def test_langfuse(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "status": "ACTIVE", "input": {"question": "Who?"}, "expectedOutput": {"answer": "me"},
         "metadata": {"topic": "who", "level": 3, "nested": {"a": 1}}},
        {"id": "2", "status": "ARCHIVED", "input": "gone", "expectedOutput": "x"},
        {"id": "3", "input": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
         "expectedOutput": None},
        {"id": "4", "input": {"a": "1", "b": "2"}, "expectedOutput": {"x": [1]}},
    ]  # fmt: skip
    first, third, fourth = read_items(lines(tmp_path / "export.jsonl", *rows))
    assert (asked(first), first["expected"], first["tags"]) == ("Who?", ["me"], {"topic": "who", "level": "3"})
    assert (asked(third), third["expected"]) == ("Hi", [])
    assert (asked(fourth), fourth["expected"]) == ('{"a": "1", "b": "2"}', ['{"x": [1]}'])
    by_sdk = {"id": "1", "input": "Who?", "expected_output": {}, "status": "DatasetStatus.ACTIVE", "dataset_id": "d"}
    gone = by_sdk | {"status": "DatasetStatus.ARCHIVED"}
    assert [one["expected"] for one in read_items(lines(tmp_path / "sdk.jsonl", by_sdk, gone))] == [[]]


def test_lm_evaluation_harness(tmp_path: Path) -> None:
    generated = {
        "doc_id": 0, "doc": {"question": "1+1"}, "target": "2", "prompt_hash": "p",
        "arguments": {"gen_args_0": {"arg_0": "Q: 1+1\nA:", "arg_1": {"until": ["\n"]}}}, "resps": [["2"]],
    }  # fmt: skip
    chosen = {
        "doc_id": 1, "doc": {}, "target": "1", "task_name": "arc",
        "arguments": [["Sky?", " green"], ["Sky?", " blue"]], "resps": [[[-1.0, False]], [[-0.1, True]]],
    }  # fmt: skip
    path = lines(tmp_path / "samples_arc.jsonl", generated, generated | {"filter": "strict"}, chosen)
    first, second = read_items(path)
    assert (asked(first), first["expected"]) == ("Q: 1+1\nA:", ["2"])
    assert (asked(second), second["expected"]) == ("Sky?", ["blue"])
    assert json.loads(second["tags"]["choices"]) == ["green", "blue"]
    assert second["tags"]["task"] == "arc"


def test_right_answers_that_the_harness_logs_as_a_python_list_are_several(tmp_path: Path) -> None:
    asks = {"doc_id": 0, "arguments": {"gen_args_0": {"arg_0": "Who?", "arg_1": {"until": []}}}}
    targets = ["['me', \"it's I\"]", "['me', ", "[1, 2]"]
    rows = [asks | {"doc_id": number, "target": target} for number, target in enumerate(targets)]
    rows = [row | {"arguments": [[f"Who {row['doc_id']}?", {}]]} for row in rows]
    found = [one["expected"] for one in read_items(lines(tmp_path / "samples.jsonl", *rows))]
    assert found == [["me", "it's I"], ["['me', "], ["[1, 2]"]]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "yaml"])
def test_a_mark_of_the_byte_order_is_no_part_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text('{"input": "Who?"}', encoding="utf-8-sig")
    assert [asked(one) for one in read_items(path)] == ["Who?"]


PROMPTFOO = """
prompts:
  - "Translate to {{language}}: {{ text }}"
  - file://chat.json
defaultTest:
  vars: {language: French}
  assert: [{type: llm-rubric, value: is polite}]
tests:
  - vars: {text: Hello}
    assert: [{type: contains-any, value: [Bonjour, Salut]}, {type: javascript, value: output.length > 3}]
    metadata: {topic: greeting}
  - vars: {text: Bye, language: German}
    assert: [{type: equals, value: Tschüss}]
"""


def test_promptfoo(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text(
        '[{"role": "system", "content": "{{language}}"}, {"role": "user", "content": "{{text}}"}]'
    )
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(PROMPTFOO)
    items = list(read_items(path))
    assert [asked(item) for item in items] == [
        "Translate to French: Hello", "Hello", "Translate to German: Bye", "Bye",
    ]  # fmt: skip
    assert items[0]["expected"] == ["Bonjour", "Salut"]
    assert (items[1]["messages"][0]["content"], items[0]["rubric"], items[0]["tags"]) == (
        "French", "is polite", {"topic": "greeting"},
    )  # fmt: skip
    assert items[2]["expected"] == ["Tschüss"]


@pytest.mark.parametrize(
    ("name", "content", "format", "says"),
    [
        ("a.txt", "x", None, "ends in .txt; known are .csv, .parquet"),
        ("a.jsonl", '{"input": "x"}', "deepeval", "There is no format deepeval. Known: driftline, langfuse"),
        ("a.json", "[1]", None, "item 1: an item is an object."),
        ("a.json", "[", None, "the file: not JSON"),
        ("a.yaml", "a: [", None, "the file: not YAML"),
        ("a.parquet", "nothing of the kind", None, "the file: not Parquet"),
        ("a.csv", "input,expected\nWho?\n", None, "line 2: the header has 2 columns, this row has not."),
        ("a.csv", "input,weight\nWho?,much\n", None, "line 2: `weight` must be a number above 0; got 'much'."),
        ("a.csv", "question,expected\nWho?,me\n", None, "line 2: unknown field 'question'"),
        ("a.yaml", "prompts: [x]\ntests: file://t.py", None, "the tests are 'file://t.py', which cannot be read here"),
        ("a.yaml", "prompts: ['{{a}}']\ntests: [{vars: {b: 1}}]", None, "the prompt asks for 'a', which is not given"),
        ("a.yaml", "prompts: [file://p.py]\ntests: []", None, "is a program, which is not run here"),
        ("a.yaml", "prompts: [file://p.txt]\ntests: []", None, "p.txt, which cannot be read"),
        ("a.yaml", "tests: [{vars: {a: 1, b: 2}}]", None, "there is no prompt to fill ['a', 'b'] in"),
        ("a.jsonl", "[" * 100_000, None, "line 1: nested too deeply."),
        ("a.json", "[" * 100_000, None, "the file: not JSON"),
        ("a.jsonl", '{"input": "\\ud800"}', None, "line 1: it holds the character '\\ud800'"),
        ("a.jsonl", '{"input": "a\\u0000"}', None, "line 1: it holds the character '\\x00'"),
        ("a.jsonl", '{"input": "x", "expected": 42}', None, 'got 42, write it as a text: "42".'),
        ("a.jsonl", '{"target": 0, "arguments": [["The cup", " is"], ["The can", " is"]]}', None, "weighs 2 prompts"),
        ("a.jsonl", '{"arguments": []}', None, "line 1: `arguments` holds no prompt"),
        ("a.jsonl", '{"input": "Who?", "expectedOutput": "me"}\n{"input": ""}', None, "line 2: `input` must be a text"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(
    tmp_path: Path,
    name: str,
    content: str,
    format: str | None,  # noqa: A002
    says: str,
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadInput) as raised:
        list(read_items(path, format))
    assert says in raised.value.message


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).filter(str.strip)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": TEXT})
ITEM = st.fixed_dictionaries(
    {"input": st.one_of(TEXT, st.lists(MESSAGE, min_size=1, max_size=3))},
    optional={
        "expected": st.lists(TEXT, max_size=3),
        "rubric": TEXT,
        "cluster": TEXT,
        "tags": st.dictionaries(TEXT, TEXT, max_size=2),
        "weight": st.floats(0.01, 100),
        "split": st.sampled_from(["test", "train"]),
    },
)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@given(raw=st.lists(ITEM, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_what_is_exported_is_read_back_to_the_same_hash(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, raw: list[Any]
) -> None:
    from collector.files import write_items
    from driftline.acts.golden import COVERED
    from driftline.acts.golden_changes import exported
    from driftline.cli.golden import _flat

    items = [canonical(one) for one in raw]
    path = tmp_path_factory.mktemp("export") / f"items{suffix}"
    rows = [item if suffix == ".jsonl" else _flat(item) for item in exported(items)]
    write_items(path, ("input", *COVERED[1:]), [rows])
    assert [content_hash(item) for item in read_items(path, "driftline")] == [content_hash(item) for item in items]
