"""Building a variant: run its recipe, measure what came out, write it down."""

from pathlib import Path
from typing import Any

from sqlmodel import Session, select

from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import GoldenItem, GoldenSet, GoldenVersion, Variant
from scheduler.measuring import at_build
from scheduler.models import cache, fetch, hand_on, let_go, model_of, spec_of
from scheduler.work import Work
from variants.build import build as build_variant
from variants.training.clean import refuse_leaking
from variants.training.corpus import Example, read_examples


def build(work: Work) -> dict[str, Any]:
    """Builds args["variant_id"]; building the same again finds it built."""
    variant_id = work.args["variant_id"]
    with reading() as session:
        variant = session.get_one(Variant, variant_id)
    spec = spec_of(variant)
    with writing() as session:
        work.hold(session)
        _update(session, variant_id, build_state="building", build_error=None)
    refuse_leaks(variant)

    def say(note: str) -> None:
        work.progress(*_steps(note), note)

    fetch(spec, say)
    let_go()
    built = build_variant(spec, cache(), on_progress=say)
    hand_on(spec, say)
    model = model_of(variant)
    fingerprint = model.fingerprint
    work.progress(0, 1, "measuring")
    measured = {
        "bytes_stored": built.bytes_stored,
        "build_s": round(built.seconds, 2),
        **built.measured,
        **at_build(variant, model),
        "versions": dict(built.versions),
        "deterministic": built.deterministic,
    }
    with writing() as session:
        work.hold(session)
        _update(
            session, variant_id, build_state="built", built_at=now_us(), fingerprint=fingerprint, measured=measured,
            note=built.note or None,
        )  # fmt: skip
    return {"fingerprint": fingerprint}


def refuse_leaks(variant: Variant) -> None:
    """Returns when no example that the variant learns from repeats an item of the project's golden sets.

    Calibration texts count as examples too.

    Raises:
        BadInput: Some do; names the first.
    """
    learned = [example for step in variant.spec.get("chain", []) for example in _learned(step.get("config", {}))]
    if not learned:
        return
    with reading() as session:
        of_project = select(GoldenItem.messages).join(GoldenVersion).join(GoldenSet)
        rows = session.exec(of_project.where(GoldenSet.project_id == variant.project_id, GoldenItem.split == "test"))
        prompts = {"\n".join(m["content"] for m in messages if m["role"] == "user") for messages in rows}
    refuse_leaking(learned, prompts)


def _learned(config: dict[str, Any]) -> list[Example]:
    data, texts = config.get("data"), config.get("calibration") or []
    found = read_examples(Path(data).expanduser()) if isinstance(data, str) and data else []
    return [*found, *(Example((), text) for text in texts)]


def _steps(note: str) -> tuple[int, int]:
    """How many steps are done, of how many: a note begins with "2/3 wanda: " while the second is at work."""
    number, _, total = note.partition(" ")[0].partition("/")
    return (int(number) - 1, int(total)) if number.isdigit() and total.isdigit() else (0, 1)


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Writes on the variant why it could not be built."""
    _update(session, args["variant_id"], build_state="failed", build_error=reason)


def _update(session: Session, variant_id: int, **values: Any) -> None:
    variant = session.get_one(Variant, variant_id)
    for name, value in values.items():
        setattr(variant, name, value)
    session.add(variant)
