"""From a comparison's verdict to an alert, and back: a later comparison that acquits the variant is the certificate."""

from sqlmodel import Session, select

from driftline.acts.alerts import ACTOR, end_part
from driftline.store.tables import Comparison, GoldenSet, GoldenVersion, Replay, Variant
from scheduler.incidents import raise_alerts

PASSING = ("better", "equivalent", "not_worse")


def tell_of(session: Session, candidate: Replay, baseline: Replay) -> None:
    """Raises an alert for each scorer that calls the candidate worse, and ends those that a scorer takes back."""
    variant, other = (session.get_one(Variant, replay.variant_id) for replay in (candidate, baseline))
    version = session.get_one(GoldenVersion, candidate.golden_version_id)
    golden = session.get_one(GoldenSet, version.golden_set_id).name
    of_pair = select(Comparison).where(
        Comparison.candidate_replay_id == candidate.id, Comparison.baseline_replay_id == baseline.id
    )
    for row in session.exec(of_pair).all():
        part = f"comparison:{variant.id}:{other.id}:{golden}:{row.evaluator}"[:200]
        found = f"{row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}] on {row.n} items of {golden}"
        if row.verdict == "worse":
            raise_alerts(
                session, row.project_id, "comparison", part,
                f"{variant.name} is worse than {other.name} by {row.evaluator}",
                {"variant": variant.name, "baseline": other.name, "signal": row.evaluator, "golden": golden},
                {
                    "summary": f"{variant.name} against {other.name} by {row.evaluator}: {found}; {row.worse} items "
                    f"became worse, {row.better} better.",
                    "variant": variant.name, "effect_text": found,
                    "facts": {"Baseline": other.name, "Golden set": golden},
                },
                part=part, comparison_id=row.id,
            )  # fmt: skip
        elif row.verdict in PASSING:
            certificate = {
                "says": f"Comparison {row.id} finds it {row.verdict.replace('_', ' ')} ({row.level:.0%}): {found}.",
                "comparison_id": row.id, "low": row.low, "high": row.high,
            }  # fmt: skip
            end_part(session, row.project_id, part, ACTOR, certificate)
