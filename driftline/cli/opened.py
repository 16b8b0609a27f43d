"""The store as commands use it: brought up to date, with the project they were told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlmodel import Session, col, select

from driftline.store.engine import reading, writing
from driftline.store.projects import DEFAULT, ensure_project, find_project
from driftline.store.tables import GoldenItem, GoldenVersion, Project
from driftline.store.upgrade import upgrade


@contextmanager
def writing_in(name: str) -> Iterator[tuple[Session, Project]]:
    """A session that commits at the end, and the project; `default` is made when missing.

    Raises:
        NotFound: No project of that name.
    """
    upgrade()
    with writing() as session:
        yield session, ensure_project(session) if name == DEFAULT else find_project(session, name)


@contextmanager
def reading_in(name: str) -> Iterator[tuple[Session, Project]]:
    """A session for reads, and the project.

    Raises:
        NotFound: No project of that name.
    """
    upgrade()
    if name == DEFAULT:
        with writing() as session:
            ensure_project(session)
    with reading() as session:
        yield session, find_project(session, name)


def items_of(session: Session, version: GoldenVersion, limit: int) -> Sequence[GoldenItem]:
    """The first items of a version, in order."""
    of_version = select(GoldenItem).where(GoldenItem.version_id == version.id)
    return session.exec(of_version.order_by(col(GoldenItem.position)).limit(limit)).all()
