"""Bytes under their content hash, at any fsspec URL."""

import hashlib

import fsspec
from sqlmodel import Session

from driftline.errors import NotFound
from driftline.moment import now_us
from driftline.settings import settings
from driftline.store.tables import Artifact


def keep(session: Session, project_id: int, content: bytes, *, kind: str, media_type: str) -> Artifact:
    """Stores bytes once; the same bytes again give the same row."""
    sha256 = hashlib.sha256(content).hexdigest()
    known = session.get(Artifact, sha256)
    if known is not None:
        return known
    url = f"{settings().artifacts}/{sha256[:2]}/{sha256}"
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    with filesystem.transaction, filesystem.open(path, "wb") as file:
        file.write(content)
    row = Artifact(
        sha256=sha256, project_id=project_id, kind=kind, media_type=media_type,
        size=len(content), url=url, created_at=now_us(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def content(session: Session, project_id: int, sha256: str) -> tuple[Artifact, bytes]:
    """An artifact of a project and its bytes.

    Raises:
        NotFound: No such artifact in this project.
    """
    row = session.get(Artifact, sha256)
    if row is None or row.project_id != project_id:
        raise NotFound("artifact", sha256)
    with fsspec.open(row.url, "rb") as file:
        return row, file.read()
