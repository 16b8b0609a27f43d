"""A variant, ready to answer."""

from pathlib import Path

from driftline.protocols import Generate
from variants.build import build_steps, others_of, prepare
from variants.method import Beside, Say, quiet
from variants.recipe import Spec
from variants.runners.local_model import LocalModel


def open_variant(spec: Spec, cache_dir: Path, threads: int | None = None, on_progress: Say = quiet) -> Generate:
    """`spec` as something that answers prompts; builds what is missing first.

    It has `log_probs` (`isinstance(opened, LogProbs)`) where the runner can weigh given answers.

    Args:
        threads: How many the model may compute with, where it runs in this process; None leaves them as they are.

    Raises:
        BadInput: The model cannot be loaded or built; says what is missing.
        MissingPackage: Carries the command that installs what is missing.
    """
    steps = build_steps(spec, cache_dir, on_progress)
    source = None
    if steps:
        last = steps[-1]
        home = next(step for step in reversed(steps) if step.manifest["directory"] is not None)
        runtime = tuple(recipe.step for recipe in last.runtime)
        made_of = {
            "files": {name: file["sha256"] for name, file in home.manifest["files"].items()},
            "runtime": [recipe.to_json() for recipe in last.runtime],
        }
        source = LocalModel(last.directory, runtime, made_of)
    answering: Generate = spec.running.open(source, threads)
    for recipe in spec.chain:
        if recipe.stage == "around":
            kept = prepare(recipe, cache_dir, on_progress)
            others = {
                name: open_variant(other, cache_dir, threads, on_progress) for name, other in others_of(recipe).items()
            }
            answering = recipe.step.wrap(answering, Beside(kept["directory"] if kept else None, others))
    return answering
