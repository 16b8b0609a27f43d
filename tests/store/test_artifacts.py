"""Bytes that projects keep: shared by content, owned by each."""

import pytest

from driftline.errors import NotFound
from driftline.store.artifacts import content, keep, upload
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project


def test_two_projects_that_keep_the_same_bytes_have_them_each(database: str) -> None:
    stored = upload(b"<p>the same report</p>")
    with writing() as session:
        ours, theirs, nobodys = (ensure_project(session, name).id for name in ("ours", "theirs", "nobodys"))
    for project_id in (ours, theirs, theirs):
        with writing() as session:
            keep(session, project_id, stored, kind="report", media_type="text/html")
    with reading() as session:
        for project_id in (ours, theirs):
            row, found = content(session, project_id, stored.sha256)
            assert (row.project_id, row.size, found) == (project_id, 22, b"<p>the same report</p>")
        with pytest.raises(NotFound):
            content(session, nobodys, stored.sha256)
