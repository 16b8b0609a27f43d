"""The demo's story, chapter by chapter; all of it happens through the same rows and processes as in production."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from sqlmodel import Session, col, select

from driftline.acts import alerts, monitors
from driftline.acts.default_monitors import ensure_defaults
from driftline.acts.golden import canonical, import_items
from driftline.acts.replays import request_replay
from driftline.acts.routes import set_policy
from driftline.acts.variants import declare, find_route, find_variant, promote, request_build, set_baseline
from driftline.cli.demo import found, questions, smollm
from driftline.cli.demo.app import App
from driftline.cli.demo.receiver import Receiver
from driftline.cli.demo.size import FULL, QUICK, RECORDED, Size
from driftline.cli.demo.telling import Teller, wait_until
from driftline.cli.say import actor
from driftline.cli.up import LOCKS, Supervisor, supervised
from driftline.errors import DriftlineError
from driftline.moment import iso
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Answer, GoldenVersion, Job, Monitor, Reoptimization, Replay

ROUTE = "assistant"
PATIENCE_S = 600.0
BESIDE_BLOCKS = 10  # blocks of the main monitors in one of those beside them
SECOND_PATIENCE_S = 400.0  # for the second drift, once the first is found


def tell(*, quick: bool, leave: bool, history: bool, auto: bool, as_json: bool) -> int:
    """Tells the story; 0 when all that was injected was found (and, with `auto`, repaired), 1 when not."""
    _choose_folder()
    receiver = Receiver()
    size = RECORDED if history else QUICK if quick else FULL
    teller = Teller(size.chapters_s if auto else size.chapters_s[:-1])
    try:
        with supervised(teller.say, _empty_folder) as supervisor:
            threading.Thread(target=supervisor.watch, daemon=True).start()
            story = (_history() if history else Story)(teller, receiver, supervisor, size, auto)
            document = story.run()
            teller.table("What was injected, what was found", document["rows"])
            if as_json:
                sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
                sys.stdout.flush()
            teller.say(f"Dashboard: {supervisor.address}")
            if not leave:
                teller.say("It stays up until Ctrl-C.")
                while not supervisor.stopping:
                    time.sleep(0.2)
    finally:
        receiver.close()
    return 0 if document["complete"] else 1


def _history() -> type["Story"]:
    from driftline.cli.demo.history import History

    return History


def _choose_folder() -> None:
    """Points this process and its children at a folder beside the usual one, whatever store and broker are set."""
    os.environ |= {
        "DRIFTLINE_DATA_DIR": str(settings().data_dir.absolute() / "demo"), "DRIFTLINE_HOST": "127.0.0.1",
        "DRIFTLINE_SWEEP_S": "0.5", "DRIFTLINE_SETTLE_S": "0.5", "DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS": "true",
        "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    for name in ("DATABASE_URL", "BROKER_URL", "ARTIFACT_URL"):  # a demo has no business in a real installation
        os.environ.pop(f"DRIFTLINE_{name}", None)
    settings.cache_clear()


def _empty_folder() -> None:
    """Removes what an earlier demo left; built models are kept, because they would come out the same."""
    for entry in settings().data_dir.iterdir():
        if entry.name not in ("variants", *LOCKS):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


class Story:
    """The demo on a model that runs here."""

    deciding = "reference_likelihood"  # the evaluator whose verdict counts
    scorers: ClassVar[list[str] | None] = None
    model = "SmolLM2-135M-Instruct"
    cast = smollm.cast()
    base, harmless, broken = cast.base, cast.harmless, cast.broken
    signals: ClassVar[set[str]] = {"quality", "latency"}  # in which drift is injected
    awaited: ClassVar[set[str]] = {"errors", "quality", "latency"}  # whose references it waits for
    pace_s: float | None = None  # between two batches of recorded traffic; None: as fast as the model answers

    def __init__(
        self, teller: Teller, receiver: Receiver, supervisor: Supervisor, size: Size, auto: bool = False
    ) -> None:
        self.teller, self.receiver, self.supervisor, self.size = teller, receiver, supervisor, size
        self.auto = auto  # whether repairs are approved by the policy
        self.notes: list[str] = []
        self.golden, self.traffic = self.load()

    def load(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Golden items and traffic prompts, disjoint; both with `input`, `expected` and `tags`."""
        chosen = questions.load(self.size.questions)
        every = [{"input": one.messages, "expected": one.answer, "tags": {"kind": one.kind}} for one in chosen]
        return every[: self.size.golden_items], every[self.size.golden_items :]

    def wait(
        self, ready: Callable[[], Any], timeout_s: float, problem: str, meanwhile: Callable[[], object] = bool
    ) -> Any:
        """What `ready` answers once it is true; see `wait_until`."""
        return wait_until(ready, timeout_s, problem, lambda: self.supervisor.stopping, meanwhile)

    def spec_of(self, name: str) -> dict[str, Any]:
        """The recipe of one of the demo's variants."""
        from variants.recipe import Spec

        told = {"runner": "transformers", "runner_config": {}, "chain": self.cast.chain(name)}
        return Spec.from_json(told).to_json()

    def origin(self) -> tuple[str, str, str]:
        """Name, source and licence of the golden set."""
        return "halueval-qa", questions.SOURCE, questions.LICENCE

    def run(self) -> dict[str, Any]:
        """All chapters; the table as a document."""
        self.teller.say(f"Dashboard: {self.supervisor.address} (it fills as the story goes on)")
        app = self._start_app()
        try:
            version = self._import()
            self.build_and_replay(version)
            self._ship()
            self._watch_quietly(app)
            self._deploy_and_wait(app)
        finally:
            app.stop()
        proposal = self._proposal()
        if self.auto:
            self._await_promotion(proposal)
        injected = app.deployed[self.broken]
        return found.document(self, app, injected)

    def _import(self) -> GoldenVersion:
        self.teller.chapter("1. A golden set of real questions")
        name, source, licence = self.origin()
        items = [canonical(item) for item in self.golden]
        with writing() as session:
            self.project_id = ensure_project(session).id
            version, _ = import_items(session, self.project_id, name, items, actor(), source=source, licence=licence)
        self.teller.say(f"{version.n_items} questions, {source} ({licence}).")
        return version

    def build_and_replay(self, version: GoldenVersion) -> None:
        """Builds, replays and judges the variants, and sees to it that one of them is broken."""
        self.teller.chapter("2. Three variants of SmolLM2-135M-Instruct are built, replayed and judged")
        self.replay(version, [self.base, self.harmless, self.broken])
        verdict = self.verdict(self.broken)
        if verdict != "worse":
            note = f"Dynamic int8 is not degraded on this processor ({verdict}); per-row int4 is used instead."
            self.notes.append(note)
            self.teller.say(note)
            self.broken = self.cast.broken_too
            self.replay(version, [self.broken])

    def replay(self, version: GoldenVersion, names: list[str]) -> None:
        """Builds the variants, replays the golden version on each, compares each with the baseline."""
        with writing() as session:
            for name in names:
                parent = find_variant(session, self.project_id, self.base) if name != self.base else None
                variant = declare(session, self.project_id, name, self.spec_of(name), actor(), parent)
                request_build(session, variant, actor())
        self._await_builds(names)
        with writing() as session:
            base = find_variant(session, self.project_id, self.base)
            replays = [
                request_replay(
                    session, self.project_id, find_variant(session, self.project_id, name), version, actor(),
                    baseline=base, sampling={"max_tokens": self.size.max_tokens}, scorers=self.scorers,
                ).id
                for name in names
            ]  # fmt: skip
        self._await_replays(replays)
        for name in names:
            if name != self.base:
                self.teller.say(found.judged(self.project_id, name, self.deciding))

    def _await_builds(self, names: list[str]) -> None:
        def built() -> list[str]:
            with reading() as session:
                rows = [find_variant(session, self.project_id, name) for name in names]
            for row in rows:
                if row.build_state == "failed":
                    raise DriftlineError(f"{row.name} could not be built: {row.build_error}")
            return [row.name for row in rows if row.build_state == "built"]

        with self.teller.bar("building", len(names)) as bar:
            self.wait(
                lambda: len(built()) == len(names), PATIENCE_S, "The variants were not built", lambda: bar(len(built()))
            )
            bar(len(names))

    def _await_replays(self, replays: list[int]) -> None:
        def state() -> tuple[int, int, bool]:
            with reading() as session:
                rows = session.exec(select(Replay).where(col(Replay.id).in_(replays))).all()
                answered = len(session.exec(select(Answer.id).where(col(Answer.replay_id).in_(replays))).all())
                judging = session.exec(
                    select(Job.id).where(Job.kind == "comparison.make", col(Job.state).in_(("queued", "running")))
                ).all()
            for row in rows:
                if row.state == "failed":
                    raise DriftlineError(f"Replay {row.id} failed: {row.error}")
            return answered, sum(row.n_items for row in rows), all(row.state == "done" for row in rows) and not judging

        with self.teller.bar("replaying", state()[1]) as bar:
            self.wait(lambda: state()[2], PATIENCE_S, "The replays did not end", lambda: bar(state()[0]))
            bar(state()[1])

    def verdict(self, name: str) -> str | None:
        """A variant's verdict on the golden set."""
        row = found.comparison_of(self.project_id, name, self.deciding)
        return row.verdict if row is not None else None

    def _ship(self) -> None:
        with writing() as session:
            base = find_variant(session, self.project_id, self.base)
            promote(session, self.project_id, ROUTE, base, actor(), "the demo's first production variant")
            route = find_route(session, self.project_id, ROUTE)
            set_baseline(session, route, base, actor())
            if self.auto:
                set_policy(session, route, actor(), approval="auto")
            ensure_alerting(session, self.project_id, self.receiver.url)
            self.add_monitors(session)

    def add_monitors(self, session: Session) -> None:
        """What watches the traffic: the default monitors, and one that knows the true answers."""
        params = self.size.monitor_params
        beside = params | {"block_s": BESIDE_BLOCKS * self.size.block_s}  # the models need the processor
        ensure_defaults(session, self.project_id, ROUTE, params, beside=beside)
        monitors.add(
            session, self.project_id, f"{ROUTE}/answers right", "quality", actor(), route=ROUTE, source="token_f1",
            weight=0.25, params=params,
        )  # fmt: skip

    def _start_app(self) -> App:
        """The app that is watched; nobody asks it anything yet."""
        return App(
            {
                "endpoint": self.supervisor.address, "route": ROUTE, "model": self.model,
                "threads": 1, "pace_s": self.pace_s,
                "cache": str(settings().model_cache), "spool_dir": str(settings().data_dir / "spool"),
                "max_tokens": self.size.max_tokens,
                "prompts": [
                    {"messages": canonical(one)["messages"], "expected": one["expected"]} for one in self.traffic
                ],
            }
        )  # fmt: skip

    def _watch_quietly(self, app: App) -> None:
        self.teller.chapter("3. Production traffic: real questions, answered by the baseline, sent by the SDK")
        app.deploy({"variant": self.base, "spec": self.spec_of(self.base), "slow_down": 1.0, "people": 1})
        wanted = self.size.reference_items + self.size.quiet_items

        def watching() -> bool:
            app.hear()
            with reading() as session:
                rows = session.exec(select(Monitor).where(Monitor.project_id == self.project_id)).all()
            ready = all(
                row.status != "collecting" for row in rows if row.signal in self.awaited and row.source != "token_f1"
            )
            return ready and app.sent >= wanted

        with self.teller.bar("answering", wanted) as bar:
            self.wait(
                watching, PATIENCE_S, "The monitors did not freeze their references", lambda: bar(min(app.sent, wanted))
            )
        self.teller.say(f"{app.sent} answers; the references are frozen and the monitors watch. Nothing has drifted.")

    def _deploy_and_wait(self, app: App) -> None:
        slow_down = self.size.slow_down
        slower = f", its service is {slow_down:g} times slower, and twice as many people ask" if slow_down > 1 else ""
        self.teller.chapter(f"4. {self.broken} is deployed{slower}")
        with writing() as session:
            variant = find_variant(session, self.project_id, self.broken)
            promote(session, self.project_id, ROUTE, variant, actor(), "smaller and cheaper")
        before = app.sent
        app.deploy({"variant": self.broken, "spec": self.spec_of(self.broken), "slow_down": slow_down, "people": 2})
        reported: set[int] = set()

        first_found: list[float] = []

        def all_found() -> bool:
            app.hear()
            events = found.injected_events(self)
            for event, monitor in events:
                if event.id not in reported:
                    reported.add(event.id)
                    first_found.append(time.monotonic())
                    self.teller.say(
                        f"{monitor.signal} drift found, began {iso(event.began_at or 0)}, cause: {event.cause}, "
                        f"{event.items_since} records after it began."
                    )
            enough = self.signals <= {monitor.signal for _, monitor in events}
            # A busy machine may hide a slowness from a test that keeps its promise; the table says so then.
            late = bool(first_found) and time.monotonic() - first_found[0] > SECOND_PATIENCE_S
            return late or (enough and len(self.receiver.received) >= len(self.signals))

        with self.teller.bar("watching", 200) as bar:
            self.wait(all_found, PATIENCE_S, "The drift was not found", lambda: bar(min(199, app.sent - before)))
        self.teller.say(f"Slack was told: {self.receiver.received[0]['text'][:110]}")

    def _proposal(self) -> Reoptimization:
        waits = "the policy auto says yes" if self.auto else "waits for a person"
        self.teller.chapter(f"5. A repair is proposed, and {waits}")

        def proposed() -> Reoptimization | None:
            with reading() as session:
                return found.repair_of(session, self.project_id)

        row: Reoptimization = self.wait(proposed, 60.0, "No repair was proposed")
        self.wait(lambda: found.reports_written(self), 120.0, "The Evidently reports were not written")
        names = ", ".join(candidate["name"] for candidate in row.plan["candidates"])
        todo = "Follow it" if self.auto else "Approve it"
        self.teller.say(f"Candidates: {names}. {todo}: {self.supervisor.address}/reoptimizations/{row.id}")
        return row

    def _await_promotion(self, row: Reoptimization) -> None:
        self.teller.chapter("6. Candidates are built, replayed, gated; the best is promoted, and nobody is asked")

        def ended() -> Reoptimization | None:
            with reading() as session:
                now = session.get_one(Reoptimization, row.id)
            return now if now.finished_at is not None else None

        with self.teller.bar("repairing", 1):
            done: Reoptimization = self.wait(ended, PATIENCE_S, "The repair did not end")
        self.teller.say(f"{done.state}: {done.reason} (approved by {done.decided_by})")


def ensure_alerting(session: Session, project_id: int, url: str) -> None:
    """A Slack channel that is told of every drift."""
    alerts.add_channel(session, project_id, "slack", "slack", {"url": url}, actor())
    alerts.add_rule(session, project_id, "drift to slack", "drift", actor(), channels=["slack"])
