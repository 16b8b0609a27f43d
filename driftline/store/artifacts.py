"""Bytes under their content hash, at any fsspec URL; projects that keep the same bytes share them, not their rows."""

import hashlib
from dataclasses import dataclass

import fsspec
from sqlmodel import Session

from driftline.errors import NotFound
from driftline.moment import now_us
from driftline.settings import settings
from driftline.store.tables import Artifact


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that lie where they belong: their hash, number and address."""

    sha256: str
    size: int
    url: str


def upload(content: bytes) -> Stored:
    """Writes bytes where their hash says; the same bytes again change nothing.

    Call it outside a transaction: the place may be far away. What no row comes to name does no harm.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    url = f"{settings().artifacts}/{sha256[:2]}/{sha256}"
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    with filesystem.transaction, filesystem.open(path, "wb") as file:
        file.write(content)
    return Stored(sha256, len(content), url)


def keep(session: Session, project_id: int, stored: Stored, *, kind: str, media_type: str) -> Artifact:
    """The project's row for bytes that were uploaded; the same bytes again give the same row."""
    known = session.get(Artifact, (project_id, stored.sha256))
    if known is not None:
        return known
    row = Artifact(
        project_id=project_id, sha256=stored.sha256, kind=kind, media_type=media_type, size=stored.size,
        url=stored.url, created_at=now_us(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def content(session: Session, project_id: int, sha256: str) -> tuple[Artifact, bytes]:
    """An artifact of a project and its bytes.

    Raises:
        NotFound: No such artifact in this project.
    """
    row = session.get(Artifact, (project_id, sha256))
    if row is None:
        raise NotFound("artifact", sha256)
    with fsspec.open(row.url, "rb") as file:
        return row, file.read()
