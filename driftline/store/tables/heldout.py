"""How often a golden version has judged: each decision spends some of its power to acquit."""

from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import BIG_KEY, key, moment, refers


class HeldOutUse(SQLModel, table=True):
    """One decision of the gate on the test items of a golden version; at most one per re-optimization.

    `alpha` is what the decision may err with, over all of its candidates together.
    """

    __tablename__ = "held_out_use"
    id: int = key()
    project_id: int = refers("project.id", index=False)
    golden_version_id: int = refers("golden_version.id")
    reoptimization_id: int = Field(foreign_key="reoptimization.id", sa_type=BIG_KEY, unique=True)
    candidates: int
    alpha: float
    created_at: int = moment()
