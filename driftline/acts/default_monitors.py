"""The monitors that every route has from its first hour, and how they share the project's false-alarm budget.

Quality and latency keep a third each. Errors and the streams that are watched beside them share the last third: a drift
of theirs takes a little longer to be seen, one of quality or latency does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, select

from driftline.acts.monitors import add
from driftline.acts.signals import SIGNALS
from driftline.store.tables import Monitor

BESIDE = 0.0625  # weight of a stream that is watched beside the main ones
SHIFT = {"margin": 0.05}  # of shares of lengths and languages: a weekday asks otherwise than a Sunday


@dataclass(frozen=True, slots=True)
class Default:
    """One default monitor: its signal, the evaluator it reads, its weight, and what it is told beside the defaults."""

    signal: str
    source: str = ""
    weight: float = BESIDE
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_main(self) -> bool:
        """Whether it is one of those that the others stand beside."""
        return self.weight > BESIDE


DEFAULTS = (
    Default("errors", weight=0.5),
    Default("latency", weight=1.0),
    Default("quality", "baseline_likelihood", weight=1.0),
    Default("empty"),
    Default("refusals"),
    Default("ttft"),
    Default("cost"),
    Default("prompt_length", params=SHIFT),
    Default("prompt_language", params=SHIFT),
    Default("answer_length", params=SHIFT),
    Default("captured"),
)


def ensure_defaults(
    session: Session, project_id: int, route: str, params: Mapping[str, Any] | None = None, *,
    beside: Mapping[str, Any] | None = None,
) -> list[Monitor]:  # fmt: skip
    """The default monitors of a route, added where it has none of that name; the captured share is one per project.

    A stream that never gets a value (no cost is recorded, nothing is streamed) never has a reference and never alarms.

    Args:
        session: In which they are added.
        project_id: Whose route it is.
        route: Its name.
        params: What those of errors, latency and quality are told.
        beside: What the others are told, where they read traffic; as `params` unless given.
    """
    monitors = []
    for one in DEFAULTS:
        measured = SIGNALS[one.signal].reads == "runs"
        name = one.signal if measured else f"{route}/{one.signal}"
        given = params if one.is_main or beside is None else beside
        told = {**one.params, **({} if measured else given or {})}
        known = session.exec(select(Monitor).where(Monitor.project_id == project_id, Monitor.name == name)).first()
        monitors.append(
            known
            or add(
                session, project_id, name, one.signal, "default", route=route, source=one.source, weight=one.weight,
                params=told,
            )
        )  # fmt: skip
    return monitors
