"""Golden sets: their versions, items and the replays on them."""

from fastapi import APIRouter
from sqlmodel import Session, col, func, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dashboard.lookups import replay_means, variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, environment, page
from driftline.acts.coverage import newest_coverage
from driftline.acts.golden import find_version
from driftline.acts.golden_changes import difference
from driftline.errors import NotFound
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import GoldenItem, GoldenSet, GoldenVersion, Replay, Variant

router = APIRouter(route_class=PageRoute)
ITEMS = 20
CHANGES = 200  # questions of a kind that are listed


@router.get("/golden-sets")
def golden_sets(request: Request, caller: Viewer) -> Response:
    """All golden sets with their newest version."""
    newest = select(GoldenVersion.golden_set_id, func.max(GoldenVersion.id).label("id")).group_by(
        col(GoldenVersion.golden_set_id)
    )
    latest = newest.subquery()
    with reading() as session:
        rows = session.exec(
            select(GoldenSet, GoldenVersion)
            .join(latest, latest.c.golden_set_id == GoldenSet.id)
            .join(GoldenVersion, col(GoldenVersion.id) == latest.c.id)
            .where(GoldenSet.project_id == caller.project_id)
            .order_by(GoldenSet.name)
            .limit(200)
        ).all()
    return page(request, caller, "golden_sets.html", rows=rows)


@router.get("/golden-sets/{name:path}")
def golden_set(request: Request, caller: Viewer, name: str, version: int | None = None) -> Response:
    """One golden set, at its newest version or the one asked for."""
    with reading() as session:
        chosen = find_version(session, caller.project_id, name, version)
        golden = session.get_one(GoldenSet, chosen.golden_set_id)
        versions = session.exec(
            select(GoldenVersion)
            .where(GoldenVersion.golden_set_id == golden.id)
            .order_by(col(GoldenVersion.number).desc())
            .limit(50)
        ).all()
        items = session.exec(
            select(GoldenItem).where(GoldenItem.version_id == chosen.id).order_by(col(GoldenItem.position)).limit(ITEMS)
        ).all()
        replays = session.exec(
            select(Replay)
            .where(Replay.project_id == caller.project_id, Replay.golden_version_id == chosen.id)
            .order_by(col(Replay.id).desc())
            .limit(20)
        ).all()
        names = variant_names(session, (row.variant_id for row in replays))
        means = replay_means(session, (row.id for row in replays))
        seen = newest_coverage(session, chosen.id)
        runnable = [
            variant.name
            for variant in session.exec(
                select(Variant)
                .where(Variant.project_id == caller.project_id, Variant.state != "retired")
                .order_by(Variant.name)
            )
            if variant.spec.get("runner", "external") != "external"
        ]
    return page(
        request, caller, "golden_set.html", golden=golden, version=chosen, versions=versions, items=items,
        replays=replays, names=names, means=means, per_page=ITEMS, start=0, runnable=runnable, coverage=seen,
    )  # fmt: skip


@router.get("/golden-versions/{version_id}/changes")
def changes(request: Request, caller: Viewer, version_id: int) -> Response:
    """What a version does not share with the one before."""
    with reading() as session:
        version, golden = _owned(session, caller, version_id)
        of_set = select(GoldenVersion).where(GoldenVersion.golden_set_id == golden.id)
        earlier = of_set.where(GoldenVersion.number < version.number).order_by(col(GoldenVersion.number).desc())
        before = session.exec(earlier.limit(1)).first()
        if before is None:
            raise NotFound("version before", f"{golden.name}@{version.number}")
        found = difference(session, before, version)
    return page(
        request, caller, "golden_changes.html", golden=golden, version=version, before=before, most=CHANGES,
        kinds=(("Added", found.added), ("Removed", found.removed), ("Changed", found.changed)),
    )  # fmt: skip


@router.get("/parts/golden-versions/{version_id}/items")
def items_part(caller: Viewer, version_id: int, start: int = 0) -> Response:
    """Some more items of a version."""
    start = max(0, start)
    with reading() as session:
        version, _ = _owned(session, caller, version_id)
        of_version = select(GoldenItem).where(GoldenItem.version_id == version_id)
        items = session.exec(
            of_version.where(col(GoldenItem.position) >= start).order_by(col(GoldenItem.position)).limit(ITEMS)
        ).all()
    html = environment().get_template("parts/golden_items.html").render(
        items=items, version=version, start=start, per_page=ITEMS
    )  # fmt: skip
    return HTMLResponse(html)


def _owned(session: Session, caller: Caller, version_id: int) -> tuple[GoldenVersion, GoldenSet]:
    version = session.get(GoldenVersion, version_id)
    golden = session.get(GoldenSet, version.golden_set_id) if version else None
    if version is None or golden is None or golden.project_id != caller.project_id:
        raise NotFound("golden version", version_id)
    return version, golden
