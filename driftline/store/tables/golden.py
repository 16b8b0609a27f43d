"""Golden sets: test items with reference answers, in immutable versions."""

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import document, key, may_text, moment, refers


class GoldenSet(SQLModel, table=True):
    """A named line of versions."""

    __tablename__ = "golden_set"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    created_at: int = moment()


class GoldenVersion(SQLModel, table=True):
    """One immutable list of items. The hash covers the items' hashes in order."""

    __tablename__ = "golden_version"
    __table_args__ = (UniqueConstraint("golden_set_id", "number"), UniqueConstraint("golden_set_id", "content_hash"))
    id: int = key()
    golden_set_id: int = refers("golden_set.id", index=False)
    number: int
    content_hash: str = Field(max_length=64)
    n_items: int
    source: str
    licence: str | None = None
    created_at: int = moment()


class GoldenItem(SQLModel, table=True):
    """One test item. `split` marks what may be trained on ("train") and what judges ("test")."""

    __tablename__ = "golden_item"
    __table_args__ = (UniqueConstraint("version_id", "position"), UniqueConstraint("version_id", "content_hash"))
    id: int = key()
    version_id: int = refers("golden_version.id", index=False)
    position: int
    content_hash: str = Field(max_length=64)
    messages: list[dict[str, str]] = document(list)
    expected: list[str] = document(list)
    rubric: str | None = may_text()
    tags: dict[str, str] = document()
    weight: float = 1.0
    cluster: str | None = None
    split: str = "test"
