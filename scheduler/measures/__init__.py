"""What measured rules look at: one file each, one row in the table.

A measure is a module with `look(session, project_id, rule, cursor, now) -> Seen` for what is new since the last look
and `past(session, project_id, rule, since, until) -> Seen` for stored history. Those that give evidence say by `LINE`
how much of it is tolerated: `line(condition)` is the share of bad ones from which on the rule alarms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEASURES: dict[str, str] = {
    "error_rate": "scheduler.measures.error_rate",
    "captured_share": "scheduler.measures.captured_share",
    "coverage_gap": "scheduler.measures.coverage_gap",
    "benefit_erosion": "scheduler.measures.benefit_erosion",
    "no_data": "scheduler.measures.no_data",
    "cost": "scheduler.measures.budget",
    "tokens": "scheduler.measures.budget",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rule asks for, saved or only tried out."""

    on: str
    matchers: Mapping[str, str]
    condition: Mapping[str, Any]
    for_s: float = 0.0
    group_by: tuple[str, ...] = ()
