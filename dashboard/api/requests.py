"""Asking for new things: a replay, a variant, a silence, a schedule; and setting a schedule on or off."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlmodel import Session, SQLModel
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.api.caller import Doer, Reader, moment_of
from dashboard.api.failing import ApiRoute, Wish
from dashboard.api.shapes import shape, shaped
from driftline.acts import alerts, golden, reoptimizations, replays, rules, schedules, variants
from driftline.errors import NotFound
from driftline.store.artifacts import content
from driftline.store.engine import reading, writing
from driftline.store.tables import AlertRule, Job, Reoptimization, Replay, Schedule, Silence, Variant


class ReplayWish(Wish):
    """A replay of a golden set on a variant; with a baseline it is compared when done."""

    variant: str
    golden: str = Field(description="NAME for the newest version, or NAME@NUMBER.")
    baseline: str | None = None
    scorers: list[str] | None = None
    sampling: dict[str, Any] | None = None
    margin: float = Field(replays.DEFAULT_MARGIN, ge=0, lt=1)
    repeats: int = Field(1, ge=1, description="Answers per item; above 1 needs a temperature above 0.")
    budget: dict[str, float] = Field({}, description="The most it may spend: calls, tokens, usd, seconds, joules.")
    early_stop: bool = Field(False, description="End as soon as the evidence decides; needs a baseline.")


class VariantWish(Wish):
    """A variant's recipe."""

    name: str = Field(min_length=1, max_length=128)
    spec: dict[str, Any] = Field(description="runner, runner_config, chain")
    parent: str | None = None
    build: bool = Field(False, description="Build it at once.")


class RepairWish(Wish):
    """A re-optimization of what answers a route now."""

    route: str = "default"
    cause: Literal["variant", "input", "latency", "cost", "third_party"] = Field(
        "variant", description="What the plan answers: quality fell, prompts moved, too slow, too dear, API changed."
    )
    because: str = Field("", description="Why, in words.", max_length=2000)
    golden: str | None = Field(None, description="NAME or NAME@NUMBER; the one it was last judged on by default.")
    evaluator: str | None = None
    margin: float | None = Field(None, ge=0, lt=1)
    max_candidates: int | None = Field(None, ge=1, le=20)
    budget_hours: float | None = Field(None, gt=0, le=24 * 30)
    documents: str | None = Field(None, description="A folder of fresh documents, for retrieval.")


class SilenceWish(Wish):
    """Labels whose alerts are muted, from when until when, and why; with a cron line a maintenance window."""

    matchers: dict[str, str]
    since: str | None = Field(None, description="RFC 3339 moment; now unless given.")
    cron: str | None = Field(None, description="Mutes for `lasts_s` from each moment of this line.")
    lasts_s: float | None = None
    timezone: str = "UTC"
    until: str = Field(description="RFC 3339 moment.")
    comment: str = ""


class RuleTrial(Wish):
    """A rule as it is tried on stored history: what it is on, and when it would fire."""

    on: str = Field(description=f"One of {', '.join(rules.OCCASIONS)}.")
    matchers: dict[str, str] = Field(default_factory=dict, description="Label to value; !, ~ and !~ before it.")
    condition: dict[str, float] = Field(default_factory=dict, examples=[{"threshold": 0.05}])
    for_s: float = Field(0.0, ge=0, description="How long it must hold.")
    group_by: list[str] = Field(default_factory=list, description="Labels that name an incident.")


class PreviewWish(RuleTrial):
    """A rule to try, and how far to look back."""

    days: float = Field(30.0, gt=0, le=366)


class RuleWish(RuleTrial):
    """A rule to save; one of the same name is replaced."""

    name: str = Field(min_length=1, max_length=64)
    channels: list[str]
    severity: str = "page"
    renotify_s: float | None = None
    escalation: list[dict[str, Any]] = Field(default_factory=list, description='[{"after_s", "channels"}]')


class ScheduleWish(Wish):
    """A kind of job and when it is due: a cron line or an interval."""

    name: str = Field(min_length=1, max_length=64)
    kind: str = "replay"
    args: dict[str, Any] = Field(description='For a replay {"variant", "golden", "baseline"?}.')
    cron: str | None = Field(None, examples=["0 3 * * *"])
    every_s: float | None = None
    timezone: str = "UTC"
    jitter_s: float = Field(0.0, ge=0, le=86_400, description="Begin up to so much later.")
    catch_up: str = Field("once", description="once, skip or each: moments that came while no clock ran.")
    catch_up_s: float = Field(3600.0, gt=0, description="How old a missed moment may be.")


class ScheduleChange(Wish):
    """What of a schedule can change."""

    enabled: bool


def routes() -> APIRouter:
    """POST /replays, /variants, /reoptimizations, /silences, /schedules and PATCH /schedules/{id}."""
    router = APIRouter(tags=["requests"], route_class=ApiRoute)

    @router.post("/replays", status_code=201, response_model=shape(Replay), summary="Ask for a replay")
    def ask_replay(wish: ReplayWish, caller: Doer) -> Any:
        """A queued replay; its baseline is replayed as well where no replay of it stands yet."""
        with writing() as session:
            row = replays.request_replay(
                session, caller.project_id, variants.find_variant(session, caller.project_id, wish.variant),
                golden.find_version(session, caller.project_id, wish.golden), caller.name, scorers=wish.scorers,
                sampling=wish.sampling, baseline=_variant(session, caller.project_id, wish.baseline),
                margin=wish.margin, repeats=wish.repeats, budget=wish.budget, early_stop=wish.early_stop,
            )  # fmt: skip
        return _shown(Replay, row)

    @router.post("/variants", status_code=201, response_model=shape(Variant), summary="Declare a variant")
    def declare(wish: VariantWish, caller: Doer) -> Any:
        """The variant of that name and recipe; declaring the same again returns it."""
        with writing() as session:
            parent = _variant(session, caller.project_id, wish.parent)
            row = variants.declare(session, caller.project_id, wish.name, wish.spec, caller.name, parent)
            if wish.build:
                variants.request_build(session, row, caller.name)
        return _shown(Variant, row)

    @router.post("/reoptimizations", status_code=201, response_model=shape(Reoptimization), summary="Ask for a repair")
    def repair(wish: RepairWish, caller: Doer) -> Any:
        """A worker plans its candidates; then it waits for a yes, or the policy gives it."""
        given = wish.model_dump(exclude={"golden", "route"}, exclude_none=True)
        with writing() as session:
            if wish.golden is not None:
                version = golden.find_version(session, caller.project_id, wish.golden)
                given["golden_version_id"] = version.id
            row = reoptimizations.ask(session, caller.project_id, wish.route, caller.name, **given)
        return _shown(Reoptimization, row)

    @router.get("/reoptimizations/{row_id}/evidence", summary="The evidence as a file")
    def evidence(row_id: int, caller: Reader) -> Response:
        """JSON Lines: the head, the slices that lost most, and each item that failed, before and after."""
        with reading() as session:
            row = find_row(session, Reoptimization, row_id, caller.project_id, "re-optimization")
            if row.bundle_sha256 is None:
                raise NotFound("evidence of re-optimization", row_id)
            kept, raw = content(session, caller.project_id, row.bundle_sha256)
        name = f"reoptimization-{row_id}.jsonl"
        return Response(
            raw, media_type=kept.media_type, headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    @router.post("/silences", status_code=201, response_model=shape(Silence), summary="Silence alerts")
    def silence(wish: SilenceWish, caller: Doer) -> Any:
        """Mutes alerts that carry all these labels, until the moment."""
        until = moment_of(wish.until, "until")
        assert until is not None
        with writing() as session:
            row = alerts.silence(
                session, caller.project_id, wish.matchers, until, caller.name, wish.comment,
                since_us=moment_of(wish.since, "since"), cron=wish.cron, lasts_s=wish.lasts_s, timezone=wish.timezone,
            )  # fmt: skip
        return _shown(Silence, row)

    @router.post("/rules", status_code=201, response_model=shape(AlertRule), summary="Set an alert rule")
    def set_rule(wish: RuleWish, caller: Doer) -> Any:
        """Which happenings become alerts, and where they are told; a rule of the same name is replaced."""
        with writing() as session:
            row = rules.add_rule(session, caller.project_id, actor=caller.name, **wish.model_dump())
        return _shown(AlertRule, row)

    @router.post("/rules/preview", status_code=202, response_model=shape(Job), summary="Try a rule on stored history")
    def try_rule(wish: PreviewWish, caller: Doer) -> Any:
        """A job whose result says how often the rule would have fired, and its false-alarm bound; nothing is saved."""
        given = wish.model_dump()
        with writing() as session:
            row = rules.request_preview(session, caller.project_id, given, given.pop("days"))
        return _shown(Job, row)

    @router.post("/schedules", status_code=201, response_model=shape(Schedule), summary="Add a schedule")
    def schedule(wish: ScheduleWish, caller: Doer) -> Any:
        """A kind of job that is due by a cron line or every so many seconds."""
        with writing() as session:
            row = schedules.add(
                session, caller.project_id, wish.name, wish.kind, wish.args, caller.name,
                cron=wish.cron, every_s=wish.every_s, timezone=wish.timezone, jitter_s=wish.jitter_s,
                catch_up=wish.catch_up, catch_up_s=wish.catch_up_s,
            )  # fmt: skip
        return _shown(Schedule, row)

    @router.patch("/schedules/{row_id}", response_model=shape(Schedule), summary="Set a schedule on or off")
    def change_schedule(row_id: int, change: ScheduleChange, caller: Doer) -> Any:
        """Lets a schedule fire, or not."""
        with writing() as session:
            row = find_row(session, Schedule, row_id, caller.project_id, "schedule")
            schedules.set_enabled(session, row, change.enabled, caller.name)
        return _shown(Schedule, row)

    return router


def _variant(session: Session, project_id: int, name: str | None) -> Variant | None:
    return None if name is None else variants.find_variant(session, project_id, name)


def _shown(table: type[SQLModel], row: Any) -> dict[str, Any]:
    with reading() as session:
        return shaped(session, table, [row])[0]
