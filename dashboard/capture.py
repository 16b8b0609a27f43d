"""What of each variant's calls was captured: stored, left out by sampling, dropped by SDKs for a reason."""

from dataclasses import dataclass, field

from sqlmodel import Session, col, func, select

from driftline.store.tables import ClientCount, Rollup, Variant

SAMPLED_OUT = "sampled_out"


@dataclass(slots=True)
class Capture:
    """All-time counts of one variant."""

    stored: int = 0
    sampled_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason → calls

    @property
    def share(self) -> float | None:
        """Stored among all calls that are known, 0 to 1; None before the first."""
        known = self.stored + self.sampled_out + sum(self.dropped.values())
        return self.stored / known if known else None


def captures(session: Session, project_id: int, variant: str | None = None) -> dict[str, Capture]:
    """Per name of a variant what was captured of it; of one variant alone where it is named.

    SDKs say what they left out under the name that the call would have had, so one that was never stored is here too.
    """
    found: dict[str, Capture] = {}
    stored = (
        select(Variant.name, func.sum(Rollup.n))
        .join(Variant, col(Variant.id) == Rollup.variant_id)
        .where(Rollup.project_id == project_id)
        .group_by(col(Variant.name))
    )
    told = (
        select(ClientCount.variant, ClientCount.reason, func.sum(ClientCount.n))
        .where(ClientCount.project_id == project_id)
        .group_by(ClientCount.variant, ClientCount.reason)
    )
    if variant is not None:
        stored, told = stored.where(Variant.name == variant), told.where(ClientCount.variant == variant)
    for name, n in session.exec(stored):
        found.setdefault(name, Capture()).stored = int(n)
    for name, reason, n in session.exec(told):
        capture = found.setdefault(name, Capture())
        if reason == SAMPLED_OUT:
            capture.sampled_out = int(n)
        elif n:
            capture.dropped[reason] = int(n)
    return dict(sorted(found.items()))
