"""What a variant costs, and how far it is from its parent."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from driftline.errors import BadInput
from variants.energy import metered
from variants.measure import measure, peak_rss
from variants.methods.calibration import TEXTS
from variants.open import open_variant
from variants.recipe import Spec, spec

PROBES = [TEXTS[0], TEXTS[3], ({"role": "user", "content": "Why?"},), ({"role": "user", "content": "What is rain?"},)]


def test_a_model_is_at_no_distance_from_itself(tiny_spec: Spec, shelf_dir: Path) -> None:
    opened = open_variant(tiny_spec, shelf_dir)

    found = measure(opened, opened, PROBES, max_tokens=8)

    assert found["kl_to_parent"] == pytest.approx(0, abs=1e-6)
    assert found["top1_agreement"] == 1.0
    assert found["errors"] == 0
    for positive in ("ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "peak_rss_bytes", "cpu_ms_per_token"):
        assert found[positive] > 0
    assert found["joules_per_token"] > 0
    assert all(math.isfinite(value) for value in found.values())


def test_a_damaged_model_is_further_away_and_no_larger(tiny_spec: Spec, shelf_dir: Path) -> None:
    parent = open_variant(tiny_spec, shelf_dir)
    near = open_variant(tiny_spec.then("bf16"), shelf_dir)
    far = open_variant(tiny_spec.then("magnitude_prune", share=0.8), shelf_dir)

    close, distant = (measure(candidate, parent, PROBES, max_tokens=8) for candidate in (near, far))

    assert close["kl_to_parent"] < distant["kl_to_parent"] / 10
    assert close["top1_agreement"] > distant["top1_agreement"]
    assert close["bytes_in_memory"] == pytest.approx(measure(parent, None, PROBES[:1])["bytes_in_memory"] / 2, rel=1e-3)


def test_perplexity_is_the_models_own_loss(tiny_spec: Spec, shelf_dir: Path) -> None:
    opened = open_variant(tiny_spec, shelf_dir)
    ids = torch.tensor([opened.tokens.tokenizer(TEXTS[0])["input_ids"]])  # type: ignore[attr-defined]
    with torch.inference_mode():
        loss = float(opened.model(ids, labels=ids).loss)  # type: ignore[attr-defined]

    assert measure(opened, None, [TEXTS[0]])["perplexity"] == pytest.approx(math.exp(loss), rel=1e-3)


def test_what_cannot_be_seen_is_left_out() -> None:
    recorded = open_variant(spec("recorded", answers={"Why?": "Because."}), Path("unused"))

    found = measure(recorded, recorded, PROBES)

    assert found["errors"] == 0.5
    assert not {"perplexity", "kl_to_parent", "bytes_in_memory", "decode_tokens_per_s", "ttft_ms"} & set(found)


def test_a_prompt_template_is_measured_with_what_it_changes(tiny_spec: Spec, shelf_dir: Path) -> None:
    parent = open_variant(tiny_spec, shelf_dir)
    brief = open_variant(tiny_spec.then("prompt_template", system="Be brief."), shelf_dir)

    found = measure(brief, parent, PROBES, max_tokens=8)

    assert found["kl_to_parent"] == pytest.approx(0, abs=1e-6)  # on bare texts it is the same model
    assert found["answer_agreement"] < 1.0


def test_measuring_without_probes_is_refused(tiny_spec: Spec, shelf_dir: Path) -> None:
    with pytest.raises(BadInput, match="at least one probe"):
        measure(open_variant(tiny_spec, shelf_dir), None, [])


def test_the_memory_peak_shows_what_was_held_and_let_go() -> None:
    before = peak_rss(reset=True)
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held

    assert peak_rss() - before > 150_000_000
    assert peak_rss(reset=True) - before < 100_000_000


def test_memory_of_what_is_gone_counts_as_free() -> None:
    command = (
        "import numpy; from variants.free_memory import held_bytes\n"
        "large = numpy.ones(30_000_000, numpy.uint8); del large\n"  # from now on glibc keeps blocks of up to this size
        "before = held_bytes(); held = [numpy.ones(1_000_000, numpy.uint8) for _ in range(200)]; full = held_bytes()\n"
        "last = held.pop(); del held; print(full - before, held_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)

    full, after = (int(word) for word in done.stdout.split())
    assert full > 190_000_000
    assert after < 20_000_000


def test_energy_is_read_where_the_processor_tells_it(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("1000000000")
    (package / "energy_uj").write_text("999000000")

    with metered(tmp_path) as spent:
        (package / "energy_uj").write_text("2000000")  # it wrapped: 1 J to the end, 2 J since

    assert spent.joules == pytest.approx(3.0)
    assert not spent.estimated


def test_energy_is_marked_estimated_where_nothing_tells_it(tmp_path: Path) -> None:
    with metered(tmp_path) as spent:
        sum(range(2_000_000))

    assert spent.estimated
    assert spent.joules == pytest.approx(4.0 * spent.cpu_seconds)
    assert spent.cpu_seconds > 0
