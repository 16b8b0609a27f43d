"""Asking how far a golden set covers today's traffic, and what the last answer was."""

from sqlmodel import Session, col, select

from driftline.errors import DriftlineError
from driftline.moment import DAY
from driftline.queue import request
from driftline.store.tables import Coverage, GoldenVersion, Job

DEFAULT_DAYS = 7.0


def request_coverage(
    session: Session, project_id: int, version: GoldenVersion, *, route: str = "", days: float = DEFAULT_DAYS
) -> Job:
    """A job that compares the version's prompts with those of the last days; on one route, or on all."""
    args = {"golden_version_id": version.id, "route": route, "window_us": int(days * DAY)}
    return request(
        session, "golden.coverage", "drift", args, project_id=project_id, subject=f"golden-version:{version.id}",
        dedup_key=f"coverage:{version.id}:{route}:{days:g}",
    )  # fmt: skip


class Unmeasured(DriftlineError):
    """A coverage that nobody asked for yet."""

    status = 404


def newest_coverage(session: Session, version_id: int) -> Coverage | None:
    """The last coverage of a version; None where nobody asked yet."""
    of_version = select(Coverage).where(Coverage.golden_version_id == version_id)
    return session.exec(of_version.order_by(col(Coverage.id).desc())).first()


def find_coverage(session: Session, version: GoldenVersion, name: str) -> Coverage:
    """The last coverage of a version.

    Raises:
        Unmeasured: Nobody asked for one yet; says how to.
    """
    found = newest_coverage(session, version.id)
    if found is None:
        raise Unmeasured(
            f"The coverage of {name.partition('@')[0]}@{version.number} was not measured yet. "
            f"Run `driftline golden coverage {name}`."
        )
    return found
