"""Replays of golden sets on variants, their answers and scores, and what two replays say of each other."""

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import (
    count,
    document,
    key,
    may_document,
    may_moment,
    may_refer,
    may_text,
    moment,
    refers,
    text,
)


class Replay(SQLModel, table=True):
    """One run of a golden version on a variant. States: queued, running, done, failed, cancelled.

    The counters grow with each stored batch, so that a budget holds over all workers. `stopped` says why a replay that
    is done did not answer all items: its budget was spent, or the evidence decided.
    """

    __tablename__ = "replay"
    id: int = key()
    project_id: int = refers("project.id")
    variant_id: int = refers("variant.id")
    golden_version_id: int = refers("golden_version.id", index=False)
    state: str = "queued"
    sampling: dict[str, Any] = document()
    scorers: list[str] = document(list)
    fingerprint: str | None = None
    n_items: int
    repeats: int = 1  # answers drawn per item
    plan: dict[str, Any] = document()  # shards, budget, early_stop, reuse
    calls: int = count()
    reused: int = count()  # answers taken over from an earlier replay of the same fingerprint
    tokens: int = count()
    cost_nano: int = count()
    joules: float = 0.0
    stopped: str | None = may_text()
    looked: dict[str, Any] = document()  # how far the early stop has read, and its evidence
    looks: int = 0
    judges: dict[str, Any] = document()  # per judge: its agreement with itself, its errors on the anchors
    measured: dict[str, Any] = document()  # medians of times, energy, memory, shares of hits: of all its answers
    requested_by: str
    error: str | None = may_text()
    created_at: int = moment()
    started_at: int | None = may_moment()
    finished_at: int | None = may_moment()


class Answer(SQLModel, table=True):
    """A variant's answer to one golden item, one of `repeats` where answers are sampled."""

    __tablename__ = "answer"
    __table_args__ = (UniqueConstraint("replay_id", "item_id", "repeat"),)
    id: int = key()
    replay_id: int = refers("replay.id", index=False)
    item_id: int = refers("golden_item.id", index=False)
    repeat: int = 0
    is_reused: bool = False  # the same fingerprint gave it earlier; its times are those of then
    text: str = text()
    latency_ms: float | None = None
    ttft_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    mean_logprob: float | None = None
    error: str | None = may_text()
    created_at: int = moment()


class Score(SQLModel, table=True):
    """What an evaluator made of an Answer or of a Generation: a value, or why there is none."""

    __tablename__ = "score"
    __table_args__ = (
        UniqueConstraint("answer_id", "evaluator", "version"),
        UniqueConstraint("generation_seq", "evaluator", "version"),
        Index("ix_score_project_evaluator_id", "project_id", "evaluator", "id"),
    )
    id: int = key()
    project_id: int = refers("project.id", index=False)
    evaluator: str = Field(max_length=64)
    version: str = Field(max_length=128)
    answer_id: int | None = may_refer("answer.id")
    generation_seq: int | None = may_refer("generation.seq")
    value: float | None = None
    because: str | None = may_text()
    arrived_at: int | None = may_moment()  # on traffic: when the record, or its true answer, came in
    created_at: int = moment()


class Comparison(SQLModel, table=True):
    """Candidate replay against baseline replay by one evaluator: paired estimate, interval, flips, verdict."""

    __tablename__ = "comparison"
    __table_args__ = (
        UniqueConstraint("candidate_replay_id", "baseline_replay_id", "evaluator", "evaluator_version", "margin"),
    )
    id: int = key()
    project_id: int = refers("project.id")
    candidate_replay_id: int = refers("replay.id", index=False)
    baseline_replay_id: int = refers("replay.id", index=False)
    evaluator: str = Field(max_length=64)
    evaluator_version: str = Field(max_length=128)
    margin: float
    level: float
    n: int
    unscored: int
    candidate_mean: float
    baseline_mean: float
    estimate: float
    low: float
    high: float
    better: int
    worse: int
    ties: int
    p_value: float | None = None
    verdict: str  # better | equivalent | not_worse | worse | undecided
    method: str
    evidence: dict[str, Any] = document()
    slices: list[dict[str, Any]] | None = may_document()
    created_at: int = moment()
