"""Declaring, building and promoting variants."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import now_us
from driftline.names import is_typable
from driftline.queue import request
from driftline.store.hashing import content_hash
from driftline.store.projects import audit
from driftline.store.tables import AuditEntry, Job, Route, Variant


def find_variant(session: Session, project_id: int, name: str) -> Variant:
    """The variant that apps call by this name.

    Raises:
        NotFound: Lists the variants there are.
    """
    of_project = select(Variant).where(Variant.project_id == project_id)
    found = session.exec(of_project.where(Variant.name == name)).first()
    if found is None:
        raise NotFound("variant", name, [variant.name for variant in session.exec(of_project.order_by(Variant.name))])
    return found


def declare(
    session: Session, project_id: int, name: str, spec: dict[str, Any], actor: str, parent: Variant | None = None
) -> Variant:
    """The variant of that name and spec; declaring the same again returns it.

    A name that traffic registered by itself is given its recipe by the first declaration.

    Raises:
        BadInput: The name cannot be typed again, or is longer than 128 characters.
        Conflict: The name stands for another recipe.
    """
    digest = content_hash(spec)
    known = session.exec(select(Variant).where(Variant.project_id == project_id, Variant.name == name)).first()
    if known is not None and known.content_hash == digest:
        return known
    if known is None and (len(name) > 128 or not is_typable(name)):  # traffic may have brought any
        raise BadInput(
            f"A variant cannot be called {name[:200]!r}: a name is one line of 1 to 128 characters that can be seen, "
            "without a space at its ends."
        )
    if known is not None and known.spec.get("runner") != "external":
        raise Conflict(
            f"The variant {name} stands for another recipe (hash {known.content_hash[:12]}). Choose another name."
        )
    variant = known or Variant(project_id=project_id, name=name, content_hash=digest, created_at=now_us())
    variant.content_hash, variant.spec, variant.build_state = digest, spec, "declared"
    variant.parent_id = parent.id if parent else None
    session.add(variant)
    session.flush()
    audit(session, project_id, actor, "variant.declared", f"variant:{variant.id}", {"name": name, "hash": digest})
    return variant


def lineage(session: Session, variant: Variant) -> list[str]:
    """The names of the variant's ancestors and its own, oldest first."""
    names, seen, at = [variant.name], {variant.id}, variant
    while at.parent_id is not None and at.parent_id not in seen:
        at = session.get_one(Variant, at.parent_id)
        seen.add(at.id)
        names.append(at.name)
    return names[::-1]


def request_build(session: Session, variant: Variant, actor: str) -> Job:
    """A job that builds the variant and measures it; one that failed is tried anew."""
    if variant.build_state == "failed":
        variant.build_state, variant.build_error = "declared", None
        session.add(variant)
    job = request(
        session, "variant.build", "build", {"variant_id": variant.id}, project_id=variant.project_id,
        subject=f"variant:{variant.id}", dedup_key=f"build:{variant.id}", max_attempts=3,
    )  # fmt: skip
    audit(session, variant.project_id, actor, "variant.build_requested", f"variant:{variant.id}", {"job": job.id})
    return job


def find_route(session: Session, project_id: int, name: str, *, lock: bool = False) -> Route:
    """The route of that name, made when missing; with `lock` nobody else changes it until the transaction ends."""
    query = select(Route).where(Route.project_id == project_id, Route.name == name)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    found = session.exec(query).first()
    if found is None:
        found = Route(project_id=project_id, name=name, updated_at=now_us())
        session.add(found)
        session.flush()
    return found


def promote(session: Session, project_id: int, route: str, variant: Variant, actor: str, reason: str) -> Route:
    """Points the route's production at the variant; what it replaced is retired and remembered for `rollback`."""
    row = find_route(session, project_id, route, lock=True)
    if row.production_variant_id == variant.id:
        show_state(session, variant.id)
        return row
    replaced, tried = row.production_variant_id, row.canary_variant_id
    row.production_variant_id, row.canary_variant_id, row.canary_share = variant.id, None, 0.0
    row.version, row.updated_at = row.version + 1, now_us()
    session.add(row)
    session.flush()
    for one in dict.fromkeys(key for key in (variant.id, replaced, tried) if key is not None):
        show_state(session, one)  # whoever promotes another ends the trial
    audit(
        session, project_id, actor, "route.promoted", f"route:{row.name}",
        {"variant_id": variant.id, "variant": variant.name, "replaced_id": replaced, "reason": reason},
    )  # fmt: skip
    return row


def rollback(session: Session, project_id: int, route: str, actor: str, reason: str) -> Route:
    """Points the route back at what its production replaced last.

    Raises:
        Conflict: Nothing was ever replaced on this route.
    """
    row = find_route(session, project_id, route, lock=True)
    promotions = session.exec(
        select(AuditEntry)
        .where(AuditEntry.project_id == project_id, AuditEntry.subject == f"route:{row.name}")
        .where(AuditEntry.action == "route.promoted")
        .order_by(col(AuditEntry.id).desc())
    )
    for entry in promotions:
        before = entry.detail.get("replaced_id")
        if entry.detail.get("variant_id") == row.production_variant_id and isinstance(before, int):
            variant = session.get(Variant, before)
            assert variant is not None
            return promote(session, project_id, route, variant, actor, f"rolled back: {reason}")
    raise Conflict(f"The route {route} has no earlier production variant to roll back to.")


def show_state(session: Session, variant_id: int) -> None:
    """Gives a variant the state that its routes give it.

    One that serves no route any more is retired when it was in production, unless production is judged against it; a
    variant that was only tried is a candidate again.
    """
    variant = session.get_one(Variant, variant_id)
    serving = select(Route.production_variant_id, Route.canary_variant_id, Route.baseline_variant_id).where(
        Route.project_id == variant.project_id
    )
    routes = session.exec(serving).all()
    if any(production == variant_id for production, _, _ in routes):
        variant.state = "production"
    elif any(canary == variant_id for _, canary, _ in routes):
        variant.state = "canary"
    elif variant.state in ("production", "retired"):
        judges = any(baseline == variant_id for _, _, baseline in routes)
        variant.state = "candidate" if judges else "retired"
    elif variant.state in ("canary", "shadow"):
        variant.state = "candidate"
    session.add(variant)


def set_baseline(session: Session, route: Route, variant: Variant, actor: str) -> None:
    """Makes a variant the one that the route's production is judged against."""
    session.refresh(route, with_for_update=True)
    before = route.baseline_variant_id
    route.baseline_variant_id, route.updated_at = variant.id, now_us()
    session.add(route)
    session.flush()
    for one in dict.fromkeys(key for key in (before, variant.id) if key is not None):
        show_state(session, one)
    audit(session, route.project_id, actor, "route.baseline_set", f"route:{route.name}", {"variant": variant.name})
