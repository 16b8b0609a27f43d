"""Variants and routes by name: traffic that names an unknown one registers it."""

from collections.abc import Iterable

from sqlalchemy import Connection, func
from sqlmodel import Session, select

from collector.insert import insert_new
from collector.rows import Row
from driftline.moment import now_us
from driftline.store.hashing import content_hash
from driftline.store.tables import Route, Variant

OTHER = "other"  # where names go once a project has too many: an app that sends a new name with every call
MAX_VARIANTS = 1_000
MAX_ROUTES = 200


class Names:
    """What this process knows of variants and routes. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self._variants: dict[tuple[int, str], int] = {}
        self._routes: dict[tuple[int, str], str] = {}

    def forget(self) -> None:
        """Drops what is known: a transaction rolled back, or rows were deleted by others."""
        self._variants.clear()
        self._routes.clear()

    def resolve(self, connection: Connection, rows: Iterable[Row]) -> None:
        """Fills in the variants' keys in the caller's transaction, registering names that are new."""
        variants, routes = self._variants, self._routes
        for row in rows:
            variant = (row.project_id, row.variant)
            if variant not in variants:
                variants[variant] = _find_variant(connection, *variant)
            row.variant_id = variants[variant]
            route = (row.project_id, row.route)
            if route not in routes:
                routes[route] = _find_route(connection, *route, row.variant_id)
            row.route = routes[route]


def _find_variant(connection: Connection, project_id: int, alias: str) -> int:
    with Session(connection) as session:
        named = select(Variant.id).where(Variant.project_id == project_id, Variant.name == alias)
        found = session.exec(named).first()
        if found is not None:
            return found
        counted = session.exec(select(func.count()).where(Variant.project_id == project_id)).one()
        if alias != OTHER and counted >= MAX_VARIANTS:
            return _find_variant(connection, project_id, OTHER)
        external = {
            "project_id": project_id, "name": alias, "content_hash": content_hash({"external": alias}),
            "spec": {"runner": "external"}, "state": "production", "build_state": "built", "measured": {},
            "created_at": now_us(),
        }  # fmt: skip
        connection.execute(insert_new(connection, Variant), [external])
        return session.exec(named).one()


def _find_route(connection: Connection, project_id: int, name: str, variant_id: int) -> str:
    with Session(connection) as session:
        found = session.exec(select(Route).where(Route.project_id == project_id, Route.name == name)).first()
        now = now_us()
        if found is None:
            counted = session.exec(select(func.count()).where(Route.project_id == project_id)).one()
            if name != OTHER and counted >= MAX_ROUTES:
                return _find_route(connection, project_id, OTHER, variant_id)
            new = {
                "project_id": project_id, "name": name, "production_variant_id": variant_id, "canary_share": 0.0,
                "version": 1, "updated_at": now,
            }  # fmt: skip
            connection.execute(insert_new(connection, Route), [new])
        elif found.production_variant_id is None:
            found.production_variant_id, found.updated_at = variant_id, now
            session.add(found)
            session.flush()
        return name
