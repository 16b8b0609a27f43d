"""What promptfoo's users write, and what it writes itself, becomes the items that it would have asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from driftline.acts.formats import read_items
from driftline.errors import BadInput


def read(tmp_path: Path, config: str) -> list[tuple[str, list[str], str | None]]:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(config)
    return [(one["messages"][-1]["content"], one["expected"], one["rubric"]) for one in read_items(path)]


def test_a_csv_of_tests_says_in_its_own_columns_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text(
        "text,__expected,__expected2,__description\nHello,equals: Bonjour,grade: is polite,greeting\n"
        'Bye,Au revoir,not-contains: Bonjour,\nHi,"contains-any: Salut, Coucou",is-json,\nYo,fn: output.length > 1,,\n'
    )
    for named in ("file://tests.csv", "tests.csv", "[file://tests.csv]"):
        assert read(tmp_path, f'prompts: ["Say {{{{text}}}}"]\ntests: {named}') == [
            ("Say Hello", ["Bonjour"], "is polite"), ("Say Bye", ["Au revoir"], None),
            ("Say Hi", ["Salut", "Coucou"], None), ("Say Yo", [], None),
        ]  # fmt: skip


def test_a_variable_with_a_list_is_a_test_for_each_and_assertions_are_filled_in(tmp_path: Path) -> None:
    config = """
prompts: ["Say {{ word.text }} {{n}}"]
defaultTest: {vars: null, assert: null}
assertionTemplates: {same: {type: equals, value: "{{word.text}}!"}}
tests:
  - vars: {word: {text: hi}, n: [1, 2]}
    assert: [{$ref: "#/assertionTemplates/same"}, {type: assert-set, assert: [{type: contains, value: "{{n}}"}]}]
  - {vars: {word: {text: ho}, n: 3}, assert: [{type: equals, value: "{{ n | upper }}"}]}
"""
    assert read(tmp_path, config) == [
        ("Say hi 1", ["hi!", "1"], None), ("Say hi 2", ["hi!", "2"], None), ("Say ho 3", [], None),
    ]  # fmt: skip


def test_files_hold_several_prompts_and_long_variables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("First {{x}}\n---\nSecond {{x}}\n")
    (tmp_path / "b.txt").write_text("Third {{x}}")
    (tmp_path / "x.txt").write_text("long\n")
    config = "prompts: file://*.txt\ntests: [{vars: {x: file://x.txt}}]"
    (tmp_path / "x.txt").rename(tmp_path / "x.md")
    found = read(tmp_path, config.replace("x.txt", "x.md"))
    assert [asked for asked, _, _ in found] == ["First long", "Second long", "Third long"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('prompts: ["{{ a | upper }}"]\ntests: [{vars: {a: x}}]', "computes, which only promptfoo does. Import what"),
        ('prompts: ["{% if a %}x{% endif %}"]\ntests: [{vars: {a: x}}]', "computes, which only promptfoo does"),
        ("scenarios: [{config: [], tests: []}]\nprompts: [x]", "promptfoo eval -o results.json"),
        ('prompts: ["{{a}}"]\ntests: [{vars: {a: file://a.py}}]', "file://a.py cannot be read here"),
    ],
)
def test_what_only_promptfoo_can_fill_in_is_refused_with_the_way_out(tmp_path: Path, config: str, says: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path, config)
    assert says in raised.value.message
    assert raised.value.message.count("Nothing was imported.") == 1


def result(provider: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "provider": {"id": provider}, "prompt": {"raw": text, "label": "p"}, "vars": {"text": "Hello"},
        "response": {"output": "Salut"}, "success": False, "score": 0,
        "testCase": {"vars": {"text": "Hello"}, "assert": [{"type": "equals", "value": "Bonjour"}],
                     "metadata": {"topic": "greeting"}},
    } | more  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_the_results_that_it_writes_are_read_once_for_all_providers(tmp_path: Path, suffix: str) -> None:
    chat = json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "{{ as it stands }}"}])
    results = [result("a", "Say Hello"), result("b", "Say Hello"), result("a", chat)]
    path = tmp_path / f"results.{suffix}"
    whole = {"evalId": "eval-1", "results": {"version": 3, "results": results, "stats": {}}, "config": {"tests": "t"}}
    path.write_text(json.dumps(whole) if suffix == "json" else "\n".join(map(json.dumps, results)))
    first, second = read_items(path)
    assert (first["messages"][0]["content"], first["expected"]) == ("Say Hello", ["Bonjour"])
    assert first["tags"] == {"topic": "greeting"}
    assert [message["content"] for message in second["messages"]] == ["s", "{{ as it stands }}"]
