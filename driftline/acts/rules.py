"""Alert rules: which happenings become alerts, how severe, for how long, told where, and what follows."""

from typing import Any

from sqlmodel import Session, select

from driftline.acts.matching import check_matchers
from driftline.errors import BadInput, NotFound
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.projects import audit
from driftline.store.tables import AlertRule, Channel, Job, RuleState, Variant

# Occasion → what a rule on it may be told, with the value it has otherwise. `None`: it must be given.
OCCASIONS: dict[str, dict[str, Any]] = {
    "drift": {},
    "comparison": {},
    "error_rate": {"threshold": 0.05},  # share of answers
    "captured_share": {"threshold": 0.95},  # share of calls that reach the store
    "coverage_gap": {"threshold": 0.15},  # share of prompts farther from every golden item than golden items are
    "benefit_erosion": {"benefit": 0.10},  # how much faster than the baseline at least; see `watch_benefit` as well
    "no_data": {"window_s": 900.0},
    "cost": {"threshold": None, "window_s": 86_400.0},  # dollars in the window
    "tokens": {"threshold": None, "window_s": 86_400.0},
    "self": {},
}
MEASURED = ("error_rate", "captured_share", "coverage_gap", "benefit_erosion", "no_data", "cost", "tokens")
SEVERITIES = ("info", "warning", "page")
LABELS = ("route", "variant", "monitor", "signal", "cause", "on")  # by which rules group


def add_rule(
    session: Session, project_id: int, name: str, on: str, actor: str, *,
    channels: list[str], severity: str = "page", matchers: dict[str, str] | None = None,
    condition: dict[str, float] | None = None, for_s: float = 0.0, group_by: list[str] | None = None,
    renotify_s: float | None = None, escalation: list[dict[str, Any]] | None = None,
) -> AlertRule:  # fmt: skip
    """Which happenings become alerts and where they are told; the same name again replaces the rule.

    Raises:
        BadInput: An unknown occasion, severity, label or condition, or a number out of range.
        NotFound: A channel or a variant that does not exist.
    """
    if not name.strip() or len(name) > 64:
        raise BadInput("An alert rule's name has between 1 and 64 characters.")
    check(
        session, project_id, on, channels=channels, severity=severity, matchers=matchers, condition=condition,
        for_s=for_s, group_by=group_by, renotify_s=renotify_s, escalation=escalation,
    )  # fmt: skip
    row = session.exec(select(AlertRule).where(AlertRule.project_id == project_id, AlertRule.name == name)).first()
    row = row or AlertRule(project_id=project_id, name=name, on=on, created_at=now_us())
    row.on, row.channels, row.severity, row.matchers = on, channels, severity, matchers or {}
    row.condition, row.for_s, row.group_by = complete(on, condition), for_s, group_by or []
    row.renotify_s, row.escalation, row.problem = renotify_s, escalation or [], None
    session.add(row)
    session.flush()
    for state in session.exec(select(RuleState).where(RuleState.rule_id == row.id)).all():
        session.delete(state)  # evidence for one line is none for another
    audit(session, project_id, actor, "rule.set", f"rule:{row.id}", {"name": name, "on": on, "channels": channels})
    return row


def check(
    session: Session, project_id: int, on: str, *, channels: list[str], severity: str,
    matchers: dict[str, str] | None, condition: dict[str, float] | None, for_s: float, group_by: list[str] | None,
    renotify_s: float | None, escalation: list[dict[str, Any]] | None,
) -> None:  # fmt: skip
    """Refuses a rule that could not work; see `add_rule`."""
    if on not in OCCASIONS:
        raise BadInput(f"An alert rule is on one of {', '.join(OCCASIONS)}; got {on!r}.")
    if severity not in SEVERITIES:
        raise BadInput(f"A rule's severity is one of {', '.join(SEVERITIES)}; got {severity!r}.")
    known = session.exec(select(Channel.name).where(Channel.project_id == project_id)).all()
    for channel in [*channels, *(one for step in escalation or [] for one in step.get("channels", []))]:
        if channel not in known:
            raise NotFound("channel", channel, known)
    check_matchers(matchers or {})
    gone = missing_variant(session, project_id, matchers or {})
    if gone is not None:
        raise NotFound(
            "variant", gone, session.exec(select(Variant.name).where(Variant.project_id == project_id)).all()
        )
    complete(on, condition)
    for label in group_by or []:
        if label not in LABELS:
            raise BadInput(f"A rule groups by any of {', '.join(LABELS)}; got {label!r}.")
    if not 0 <= for_s <= 30 * 86_400:
        raise BadInput(f"A rule waits between 0 seconds and 30 days; got {for_s}.")
    if renotify_s is not None and not 60 <= renotify_s <= 30 * 86_400:
        raise BadInput(f"A rule reminds at intervals between a minute and 30 days; got {renotify_s} seconds.")
    after = [step.get("after_s") for step in escalation or []]
    if any(not isinstance(s, int | float) or s < 0 for s in after) or after != sorted(after):  # type: ignore[type-var]
        raise BadInput("Each step of an escalation has `after_s`, seconds since the alert fired, in rising order.")


def missing_variant(session: Session, project_id: int, matchers: dict[str, str]) -> str | None:
    """The variant that matchers ask for by name where there is none of that name (any more)."""
    wanted = matchers.get("variant")
    if not wanted or wanted[0] in "!~":
        return None
    name = wanted.removeprefix("=")
    found = session.exec(select(Variant.id).where(Variant.project_id == project_id, Variant.name == name)).first()
    return None if found is not None else name


def complete(on: str, condition: dict[str, float] | None) -> dict[str, float]:
    """A rule's condition with what was left out.

    Raises:
        BadInput: A field the occasion does not know, one that is missing, or a value out of range.
    """
    known = OCCASIONS[on]
    for field, value in (condition or {}).items():
        if field not in known:
            raise BadInput(f"A rule on {on} has no {field}. Known: {', '.join(known) or 'none'}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
            raise BadInput(f"The {field} of a rule is a number above 0; got {value!r}.")
    chosen = known | (condition or {})
    missing = [field for field, value in chosen.items() if value is None]
    if missing:
        raise BadInput(f"A rule on {on} needs a {missing[0]}, e.g. {missing[0]}=100.")
    share = chosen.get("threshold", 0.5) if on in ("error_rate", "captured_share", "coverage_gap") else 0.5
    if not 0 < share < 1 or not 0 < chosen.get("benefit", 0.5) < 1:
        raise BadInput(f"A rule on {on} compares with a share between 0 and 1.")
    if not 1 <= chosen.get("window_s", 60) <= 366 * 86_400:
        raise BadInput("A rule's window_s is between a second and a year.")
    return chosen


def find_rule(session: Session, project_id: int, name: str) -> AlertRule:
    """The rule of that name.

    Raises:
        NotFound: Lists the rules there are.
    """
    known = {row.name: row for row in session.exec(select(AlertRule).where(AlertRule.project_id == project_id))}
    if name not in known:
        raise NotFound("alert rule", name, known)
    return known[name]


def set_enabled(session: Session, rule: AlertRule, enabled: bool, actor: str) -> None:
    """Lets a rule raise alerts, or not; what stands stays."""
    rule.enabled = enabled
    session.add(rule)
    audit(session, rule.project_id, actor, "rule.enabled" if enabled else "rule.disabled", f"rule:{rule.id}", {})


def request_preview(session: Session, project_id: int, wish: dict[str, Any], days: float) -> Job:
    """A job whose result says how often a rule would have fired on stored history; nothing is saved.

    `wish` holds `on` and what `add_rule` takes.

    Raises:
        BadInput: The rule could not work, or the days are out of range.
        NotFound: It names what does not exist.
    """
    if not 0 < days <= 366:
        raise BadInput(f"A preview looks back between 0 and 366 days; got {days}.")
    given: dict[str, Any] = {
        "channels": [], "severity": "page", "matchers": None, "condition": None, "for_s": 0.0, "group_by": None,
        "renotify_s": None, "escalation": None,
    }  # fmt: skip
    on = str(wish.get("on", ""))
    check(session, project_id, on, **{name: wish.get(name, otherwise) for name, otherwise in given.items()})
    rule = {"on": on, "matchers": wish.get("matchers") or {}, "condition": complete(on, wish.get("condition")),
            "for_s": wish.get("for_s", 0.0), "group_by": wish.get("group_by") or []}  # fmt: skip
    return request(
        session, "rule.preview", "notify", {"rule": rule, "days": days}, project_id=project_id,
        subject=f"project:{project_id}", max_attempts=1,
    )  # fmt: skip
