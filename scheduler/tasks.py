"""The table of jobs: what each kind runs, and who is told when it fails for good."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """`run` and `failed` are dotted paths "module:function", resolved when first needed.

    The rows of `routine` jobs, which the clock asks for over and over, are deleted when they are done.
    """

    run: str
    failed: str | None = None
    routine: bool = False


TASKS: dict[str, Task] = {
    "variant.build": Task("scheduler.builds:build", "scheduler.builds:failed"),
    "variant.search": Task("scheduler.searches:search"),
    "replay.run": Task("scheduler.replays:run", "scheduler.replays:failed"),
    "comparison.make": Task("scheduler.comparisons:make"),
    "golden.coverage": Task("scheduler.coverage:measure"),
    "traffic.score": Task("scheduler.scoring:score", routine=True),
    "monitor.check": Task("scheduler.monitors:check", routine=True),
    "project.tidy": Task("scheduler.tidying:tidy", routine=True),
    "user.erase": Task("scheduler.tidying:erase", routine=True),
    "monitor.observe": Task("scheduler.probes:observe"),
    "monitor.backtest": Task("scheduler.backtest:backtest_job"),
    "reading.recompute": Task("scheduler.recompute:recompute_job"),
    "event.explain": Task("scheduler.explain:explain"),
    "event.same_model": Task("scheduler.explain:check_model", "scheduler.explain:check_failed"),
    "event.report": Task("scheduler.reports:report"),
    "channel.flush": Task("scheduler.outbox:flush", routine=True),
    "notification.send": Task("scheduler.outbox:deliver", "scheduler.outbox:failed"),
    "rules.evaluate": Task("scheduler.rules:evaluate", routine=True),
    "rule.preview": Task("scheduler.previews:preview"),
    "heartbeat.ping": Task("scheduler.heartbeat:ping", routine=True),
    "channel.test": Task("scheduler.outbox:test"),
    "reoptimization.plan": Task("scheduler.proposals:plan", "scheduler.proposals:planning_failed"),
    "reoptimization.advance": Task("scheduler.reoptimizations:advance", "scheduler.reoptimizations:failed"),
}
