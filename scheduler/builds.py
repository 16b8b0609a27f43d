"""Building a variant: run its recipe, measure what came out, write it down."""

from typing import Any

from sqlmodel import Session

from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Variant
from scheduler.models import cache, model_of, spec_of
from scheduler.work import Work
from variants.build import build as build_variant


def build(work: Work) -> dict[str, Any]:
    """Builds args["variant_id"]; building the same again finds it built."""
    variant_id = work.args["variant_id"]
    with reading() as session:
        variant = session.get_one(Variant, variant_id)
    spec = spec_of(variant)
    with writing() as session:
        work.hold(session)
        _update(session, variant_id, build_state="building", build_error=None)
    built = build_variant(spec, cache(), on_progress=lambda note: work.progress(0, 1, note))
    fingerprint = model_of(variant).fingerprint
    measured = {
        "bytes_stored": built.bytes_stored,
        "build_s": round(built.seconds, 2),
        **built.measured,
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


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Writes on the variant why it could not be built."""
    _update(session, args["variant_id"], build_state="failed", build_error=reason)


def _update(session: Session, variant_id: int, **values: Any) -> None:
    variant = session.get_one(Variant, variant_id)
    for name, value in values.items():
        setattr(variant, name, value)
    session.add(variant)
