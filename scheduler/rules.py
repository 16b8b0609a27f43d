"""Measured rules: each round holds what is new against every rule, and says what has begun and what is over.

Shares (errors, losses, gaps) are judged by a sequential test, so that looking every other second costs no false alarms,
and end by the opposite test; sums and silences are facts, and end when they no longer hold.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Text, cast
from sqlmodel import Session, col, select

from driftline.acts.alerts import ACTOR, end_part
from driftline.acts.rules import MEASURED, missing_variant
from driftline.errors import DriftlineError
from driftline.moment import SECOND, YEAR, now_us
from driftline.queue import request
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, AlertRule, Project, RuleState
from evaluators.drift.budget import log_threshold
from evaluators.drift.esr import ESR
from evaluators.drift.release import Release
from scheduler.incidents import raise_alerts
from scheduler.measures import MEASURES, Asked
from scheduler.measures.seen import Evidence, Seen
from scheduler.releases import ERROR, log_line
from scheduler.tending import tend
from scheduler.work import Work

MOST_ITEMS = 10_000  # of one block that a release multiplies
CURSOR = ""  # the state that remembers how far a rule has read


def evaluate(work: Work) -> dict[str, Any]:
    """One round over the measured rules of args["project_id"], and over its alerts that wait for a moment."""
    project_id = work.args["project_id"]
    seen: dict[int, Seen] = {}
    problems: dict[int, str | None] = {}
    with reading() as session:
        rules = session.exec(select(AlertRule).where(AlertRule.project_id == project_id, AlertRule.enabled)).all()
        for rule in rules:
            problems[rule.id] = problem_of(session, rule)
            if rule.on in MEASURED and problems[rule.id] is None:
                try:
                    seen[rule.id] = _look(session, rule)
                except DriftlineError as error:
                    problems[rule.id] = error.message
        alpha = session.get_one(Project, project_id).false_alarms_per_year
    with writing() as session:
        work.hold(session)
        for rule in rules:
            if rule.problem != problems[rule.id]:
                stored = session.get_one(AlertRule, rule.id)
                stored.problem = problems[rule.id]
                session.add(stored)
            if rule.id in seen:
                _judge(session, session.get_one(AlertRule, rule.id), seen[rule.id], alpha)
        tended = tend(session, project_id)
    return {"rules": len(seen), "tended": tended}


def problem_of(session: Session, rule: AlertRule) -> str | None:
    """Why a rule can raise nothing; None where it can."""
    gone = missing_variant(session, rule.project_id, rule.matchers)
    return None if gone is None else f"There is no variant {gone} (any more), so this rule can raise nothing."


def asked_of(rule: AlertRule) -> Asked:
    """What a stored rule asks for."""
    return Asked(rule.on, rule.matchers, rule.condition, rule.for_s, tuple(rule.group_by))


def measure_of(on: str) -> Any:
    """The module that measures what a rule is on."""
    return importlib.import_module(MEASURES[on])


def _look(session: Session, rule: AlertRule) -> Seen:
    state = _state(session, rule, CURSOR)
    seen: Seen = measure_of(rule.on).look(
        session, rule.project_id, asked_of(rule), state.state if state else {}, now_us()
    )
    return seen


def _state(session: Session, rule: AlertRule, key: str) -> RuleState | None:
    return session.exec(select(RuleState).where(RuleState.rule_id == rule.id, RuleState.key == key)).first()


def _judge(session: Session, rule: AlertRule, seen: Seen, alpha: float) -> None:
    if seen.cursor:
        _store(session, rule, CURSOR, seen.cursor, None)
    for one in seen.evidence:
        place = f"stream:{one.key}"[:200]
        stored = _state(session, rule, place)
        stream = Stream.from_state(rule, stored.state if stored else {}, alpha)
        stream.take(one)
        _tell_of(session, rule, place, one.key, dict(one.labels), stream.breached_since, stream.says(), stream.facts(),
                 stream.certificate)  # fmt: skip
        _store(session, rule, place, stream.state(), stream.breached_since)
    for fact in seen.facts:
        place = f"fact:{fact.key}"[:200]
        stored = _state(session, rule, place)
        since = (stored.breached_since if stored and stored.breached_since else fact.at) if fact.holds else None
        over = {"says": f"It is so no longer: {fact.says}", "value": fact.value} if not fact.holds else None
        _tell_of(session, rule, place, fact.key, dict(fact.labels), since, fact.says, dict(fact.facts), over)
        if fact.holds or (stored is not None and stored.breached_since is not None):
            _store(session, rule, place, {}, since)


def _tell_of(
    session: Session, rule: AlertRule, place: str, key: str, labels: dict[str, str], since: int | None, says: str,
    facts: dict[str, str], certificate: dict[str, Any] | None,
) -> None:  # fmt: skip
    part = f"rule:{rule.id}:{place}"[:200]
    if since is not None and now_us() - since >= rule.for_s * SECOND:
        where = f" of {key.replace('=', ' ').replace(',', ', ')}" if key else ""
        body = {"summary": says, **{name: labels.get(name) for name in ("route", "variant")}, "began_at": since,
                "facts": facts, "condition": rule.condition}  # fmt: skip
        title = f"{rule.on.replace('_', ' ').capitalize()}{where}: {rule.name}"
        raise_alerts(
            session, rule.project_id, rule.on, f"{rule.on}:{key}", title, labels, body, part=part, rules=[rule],
            waited=True,
        )  # fmt: skip
    elif since is None and certificate is not None:
        end_part(session, rule.project_id, part, ACTOR, certificate)


def _store(session: Session, rule: AlertRule, key: str, state: dict[str, Any], since: int | None) -> None:
    row = _state(session, rule, key) or RuleState(rule_id=rule.id, key=key, updated_at=0)
    row.state, row.breached_since, row.updated_at = state, since, now_us()
    session.add(row)
    session.flush()


@dataclass
class Stream:
    """The test that a share is no larger than a rule's line, and once it was, the test that it is smaller again."""

    line: float
    unit: str
    watch: ESR
    release: Release | None = None
    breached_since: int | None = None
    certificate: dict[str, Any] | None = None
    last: Evidence | None = None
    worst: dict[str, float] = field(default_factory=lambda: {"bad": 0.0, "n": 0.0})

    @classmethod
    def fresh(cls, on: str, condition: Mapping[str, Any], alpha: float) -> "Stream":
        """A stream that has seen nothing; it alarms falsely with probability at most `alpha` a year."""
        measure = measure_of(on)
        line = measure.line(condition)
        threshold = log_threshold(looks_per_year(), alpha)
        return cls(line, measure.UNIT, ESR(m0=line, direction="rise", log_threshold=threshold))

    @classmethod
    def from_state(cls, rule: AlertRule, state: Mapping[str, Any], alpha: float) -> "Stream":
        """The stream that wrote this state."""
        made = cls.fresh(rule.on, rule.condition, alpha)
        if state:
            threshold = made.watch.log_threshold
            made.watch = ESR.from_state(state["watch"])
            if made.watch.log_threshold != threshold:
                made.watch.rethreshold(threshold)
            made.release = Release.from_state(state["release"]) if state.get("release") else None
            made.breached_since, made.worst = state.get("breached_since"), dict(state["worst"])
        return made

    def state(self) -> dict[str, Any]:
        """All that is remembered, as JSON values."""
        release = self.release.state() if self.release else None
        return {"watch": self.watch.state(), "release": release, "breached_since": self.breached_since,
                "worst": self.worst}  # fmt: skip

    def take(self, block: Evidence) -> None:
        """Judges one more block; begins or ends a breach."""
        self.certificate, self.last = None, block
        if block.n <= 0:
            return
        share = min(1.0, block.bad / block.n)
        if self.breached_since is None:
            if self.watch.update([share]).alarmed:
                self.breached_since = block.at
                self.worst = {"bad": float(block.bad), "n": float(block.n)}
                self.release = Release(edges=[self.line], direction="rise", log_threshold=log_line(settings().sweep_s))
            return
        assert self.release is not None
        self.worst = {"bad": self.worst["bad"] + block.bad, "n": self.worst["n"] + block.n}
        n = min(block.n, MOST_ITEMS)
        bad = min(n, round(share * n))
        judged = self.release.update([[1.0] * bad + [0.0] * (n - bad)])
        if judged.alarmed:
            self.certificate = {
                "says": f"Back below {self.line:.1%}: {judged.detail['items']} calls since the alarm say so, wrongly "
                f"in at most {ERROR:.0%} of cases.",
                "statistic": judged.statistic, "threshold": judged.threshold, "items": judged.detail["items"],
                "error": ERROR, "edges": [self.line],
            }  # fmt: skip
            self.breached_since, self.release = None, None
            self.watch = ESR(m0=self.line, direction="rise", log_threshold=self.watch.log_threshold)

    def says(self) -> str:
        """One sentence for people."""
        bad, n = self.worst["bad"], self.worst["n"]
        share = f" ({bad:.0f} of {n:.0f} since the alarm)" if n else ""
        return f"More than {self.line:.1%} {self.unit}{share}."

    def facts(self) -> dict[str, str]:
        """What the alert shows beside its sentence."""
        log_odds = self.watch.log_threshold
        return {"Line": f"{self.line:.1%}", "Evidence": f"e^{log_odds:.1f} to 1 against a share within the line"}


def looks_per_year() -> float:
    """How many blocks a year a rule may judge: one each round of the clock."""
    return YEAR / (settings().sweep_s * SECOND)


def ask_for_rules(session: Session) -> None:
    """A round for every project that measures something or whose alerts wait for a moment; the clock asks each tick."""
    watched = col(AlertRule.on).in_(MEASURED) | cast(AlertRule.matchers, Text).contains("variant")
    measuring = select(AlertRule.project_id).where(AlertRule.enabled, watched)
    standing = select(Alert.project_id).where(Alert.state != "resolved")
    for project_id in sorted({*session.exec(measuring.distinct()), *session.exec(standing.distinct())}):
        request(
            session, "rules.evaluate", "notify", {"project_id": project_id}, project_id=project_id,
            subject=f"project:{project_id}", dedup_key=f"rules:{project_id}",
        )  # fmt: skip
