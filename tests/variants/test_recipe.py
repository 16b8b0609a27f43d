"""A variant is a value: checked when made, the same text and the same hash wherever it is made."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from driftline.errors import BadInput
from variants.canonical import canonical, digest
from variants.lookup import load
from variants.methods import METHODS
from variants.recipe import Recipe, Spec, spec
from variants.runners import RUNNERS

SIMPLE = spec("transformers", "smollm2", ("magnitude_prune", {"share": 0.2}), batch_size=4)


def test_an_unknown_method_lists_the_methods() -> None:
    with pytest.raises(BadInput) as refused:
        Recipe("quantise_harder")

    assert "quantise_harder" in refused.value.message
    assert all(method in refused.value.message for method in METHODS)


def test_an_unknown_runner_lists_the_runners() -> None:
    with pytest.raises(BadInput) as refused:
        spec("vllm")

    assert all(runner in refused.value.message for runner in RUNNERS)


@pytest.mark.parametrize(
    ("method", "config", "says"),
    [
        ("int4_group", {"grp": 32}, "unknown key 'grp'"),
        ("int4_group", {"group": "32"}, "group: Input should be a valid integer"),
        ("int4_group", {"group": 4}, "greater than or equal to 8"),
        ("magnitude_prune", {"share": 1.0}, "less than 1"),
        ("magnitude_prune", {"share": float("nan")}, "not JSON"),
        ("magnitude_prune", {"pattern": "2:4", "share": 0.3}, "exactly half"),
        ("layer_drop", {}, "either layers"),
        ("layer_drop", {"layers": [1], "count": 2}, "either layers"),
        ("prompt_template", {"user": "Answer this."}, "{prompt}"),
        ("hf_dir", {}, "path: Field required"),
        ("bf16", {"bits": 16}, "Its keys: none"),
    ],
)
def test_a_config_that_does_not_fit_is_named(method: str, config: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        Recipe(method, config)

    assert method in refused.value.message
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("runner", "chain", "says"),
    [
        ("transformers", [], "begins with a base model"),
        ("transformers", ["bf16"], "one of hf_dir, smollm2"),
        ("transformers", ["smollm2", "smollm2"], "can only stand first"),
        ("transformers", ["smollm2", "int8_dynamic", "bf16"], "bf16 must come before it"),
    ],
)
def test_steps_that_cannot_follow_each_other_are_refused(runner: str, chain: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        spec(runner, *chain)


def test_a_model_elsewhere_can_only_be_asked_differently() -> None:
    with pytest.raises(BadInput, match="bf16 cannot change it"):
        spec("openai", "bf16", base_url="http://localhost:1/v1", model="m")

    assert spec("openai", ("prompt_template", {"system": "x"}), base_url="http://localhost:1/v1", model="m").chain


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"chain": []}, "missing: runner"),
        ({"runner": "transformers", "recipes": []}, "unknown: recipes"),
        ({"runner": "transformers", "chain": [{"config": {}}]}, "Step 0"),
        ({"runner": "transformers", "chain": ["smollm2"]}, "Step 0"),
    ],
)
def test_stored_json_of_another_shape_is_refused(stored: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Spec.from_json(stored)


def test_defaults_written_out_are_the_same_variant() -> None:
    written = spec("transformers", "smollm2", ("magnitude_prune", {"share": 0.2, "skip": ["lm_head"]}), batch_size=4)

    assert written == SIMPLE
    assert written.content_hash == SIMPLE.content_hash


def test_a_stored_spec_keeps_its_hash_over_releases() -> None:
    assert SIMPLE.content_hash == "c3e5e88d9c9fc8d5a02576e8dcc3571d20f0abe9c57989eef0e52ae4b2648bcf"


def defaults_of(config_class: Any) -> dict[str, Any]:
    fields = config_class.__pydantic_fields__.items()
    values = {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}
    plain = {name: TypeAdapter(Any).dump_python(value, mode="json") for name, value in values.items()}
    return {name: value if len(str(value)) < 200 else digest(value) for name, value in plain.items()}


def test_defaults_of_released_methods_never_change() -> None:
    """A recipe is stored without its defaults, so a changed default would silently be another variant."""
    released = json.loads((Path(__file__).parent / "released_defaults.json").read_text())

    now = {name: defaults_of(load(dotted)) for name, dotted in {**METHODS, **RUNNERS}.items()}

    assert now == released, "a new option is added to released_defaults.json; an old default stays"


def test_a_child_is_its_parent_and_one_step() -> None:
    child = SIMPLE.then("bf16")

    assert child.chain[:-1] == SIMPLE.chain
    assert child.chain[-1] == Recipe("bf16")
    assert child.content_hash != SIMPLE.content_hash


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_and_is_stable(value: Any) -> None:
    text = canonical(value)

    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_the_order_of_keys_does_not_change_a_hash(value: dict[str, Any]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


def test_describing_a_variant_loads_no_model_library() -> None:
    code = (
        "import sys, variants, variants.recipe, variants.build, variants.open, variants.measure\n"
        "from variants.recipe import spec\n"
        "from variants.methods import METHODS; from variants.lookup import load\n"
        "[load(dotted) for dotted in METHODS.values()]\n"
        "spec('transformers', 'smollm2', 'bf16', 'int8_dynamic').content_hash\n"
        "heavy = {'torch', 'transformers', 'torchao', 'onnxruntime', 'numpy', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
