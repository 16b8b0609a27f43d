"""Answering one batch of golden items: taken over or generated, scored, and stored with what it cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, select

from driftline.acts.budgets import Budget
from driftline.acts.prices import price_of
from driftline.acts.replays import LARGEST_BATCH
from driftline.moment import now_us
from driftline.protocols import Answered, Completion, Generate, Sampling, Score, Scored
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.tables import METADATA, Answer, GoldenItem, Replay, Variant
from scheduler.raters import Raters
from scheduler.work import LostJob, Work
from variants.energy import metered

Drawn = list[Completion]  # one per item of a batch, in order


def earlier(session: Session, replay: Replay, fingerprint: str) -> int | None:
    """A finished replay of the same version whose answers this one would only repeat; None where there is none.

    Only the same version will do: another one has other batches, and in reduced precision the other items of a batch
    can change an answer.
    """
    if not replay.plan.get("reuse") or replay.repeats > 1:
        return None
    alike = select(Replay).where(
        Replay.golden_version_id == replay.golden_version_id, Replay.project_id == replay.project_id,
        Replay.fingerprint == fingerprint, Replay.id < replay.id, Replay.state == "done",
    )  # fmt: skip
    whole_first = col(Replay.stopped).is_not(None), col(Replay.id).desc()
    for row in session.exec(alike.order_by(*whole_first).limit(20)):
        if row.sampling == replay.sampling and row.repeats == 1:
            return row.id
    return None


class Maker:
    """Makes the answers of one replay with a model, and the scores with its raters."""

    def __init__(
        self, replay: Replay, variant: Variant, model: Generate, raters: Raters, source: int | None = None
    ) -> None:
        self.replay, self.model, self.raters, self.source = replay, model, raters, source
        self.fingerprint = model.fingerprint
        self.sampling = Sampling(**{**replay.sampling, "stop": tuple(replay.sampling.get("stop", ()))})
        with reading() as session:
            self.price = price_of(session, replay.project_id, variant)

    def answer(self, work: Work, keys: Sequence[int], budget: Budget, progress: tuple[int, int]) -> int:
        """Answers, scores and stores the items with these keys; gives how many.

        Raises:
            LostJob: The replay ended or was cancelled, or the job is no longer ours; nothing is stored then.
        """
        with reading() as session:
            known = self._known(session, keys)
        if known is None:  # what is taken over costs no call
            keys = self._reserved(work, keys, budget)
        if not keys:
            return 0
        with reading() as session:
            rows = {row.id: row for row in session.exec(select(GoldenItem).where(col(GoldenItem.id).in_(keys)))}
        items = [rows[key] for key in keys]
        with metered() as spent:
            drawn = [known] if known is not None else self._generated(items)
            scored = [self._scored(items, completions) for completions in drawn]
        with writing() as session:
            done, total = progress
            work.mark(session, done + len(items), total)
            if not self._counted(session, drawn, len(items), known is not None, spent.joules, budget):
                raise LostJob(f"replay {self.replay.id} has ended")
            self._store(session, items, drawn, scored, known is not None)
        return len(items)

    def judge_anchors(self, work: Work) -> None:
        """Lets the judges grade their anchors and keeps their noise; once per replay, by whoever comes first."""
        found = self.raters.noise()
        with writing() as session:
            work.hold(session)
            row = session.get_one(Replay, self.replay.id)
            if found and not any("errors" in noise for noise in row.judges.values()):
                row.judges = {name: row.judges.get(name, {}) | found.get(name, {}) for name in {*row.judges, *found}}
                session.add(row)

    def _reserved(self, work: Work, keys: Sequence[int], budget: Budget) -> Sequence[int]:
        """The items that the budget in calls leaves; calls are counted before they are made, so that it holds."""
        if budget.calls is None:
            return keys
        with writing() as session:
            work.hold(session)
            left = (budget.calls - session.get_one(Replay, self.replay.id).calls) // self.replay.repeats
            keys = keys[: max(left, 0)]
            if keys:
                made = len(keys) * self.replay.repeats
                claim(session, Replay, Replay.id == self.replay.id, calls=Replay.calls + made)
                return keys
            running = (Replay.id == self.replay.id, Replay.state == "running")
            reason = f"its budget of {budget.calls} calls is spent"
            claim(session, Replay, *running, state="done", stopped=reason, finished_at=now_us())
        return keys

    def _known(self, session: Session, keys: Sequence[int]) -> Drawn | None:
        """The whole batch's answers of the earlier replay, None where one is missing or an error."""
        if self.source is None:
            return None
        of_batch = select(Answer).where(
            Answer.replay_id == self.source, col(Answer.item_id).in_(keys), col(Answer.error).is_(None)
        )
        rows = {row.item_id: row for row in session.exec(of_batch)}
        if len(rows) < len(keys):
            return None
        return [
            Completion(
                row.text, row.latency_ms or 0.0, row.ttft_ms, row.input_tokens, row.output_tokens, row.mean_logprob
            )
            for row in (rows[key] for key in keys)
        ]

    def _generated(self, items: Sequence[GoldenItem]) -> list[Drawn]:
        prompts = [tuple(item.messages) for item in items]
        draws = (replace(self.sampling, seed=self.sampling.seed + draw) for draw in range(self.replay.repeats))
        return [self.model.generate(prompts, sampling) for sampling in draws]

    def _scored(self, items: Sequence[GoldenItem], completions: Drawn) -> list[tuple[Score, list[Scored]]]:
        judged = [
            Answered(tuple(item.messages), done.text, tuple(item.expected), item.rubric, item.tags, done.error)
            for item, done in zip(items, completions, strict=True)
        ]
        return [(rater, rater(judged)) for rater in self.raters]

    def _counted(
        self, session: Session, drawn: list[Drawn], items: int, is_reused: bool, joules: float, budget: Budget
    ) -> bool:
        answers = [done for completions in drawn for done in completions]
        calls = 0 if is_reused or budget.calls is not None else len(answers)
        told = [] if is_reused else answers
        cost = sum(self.price.of(done.input_tokens, done.output_tokens) for done in told) if self.price else 0
        return claim(
            session, Replay, Replay.id == self.replay.id, Replay.state == "running",
            calls=Replay.calls + calls, reused=Replay.reused + (items if is_reused else 0),
            tokens=Replay.tokens + sum((done.input_tokens or 0) + (done.output_tokens or 0) for done in told),
            cost_nano=Replay.cost_nano + cost, joules=Replay.joules + joules,
        )  # fmt: skip

    def _store(
        self, session: Session, items: Sequence[GoldenItem], drawn: list[Drawn],
        scored: list[list[tuple[Score, list[Scored]]]], is_reused: bool,
    ) -> None:  # fmt: skip
        assert len(items) <= LARGEST_BATCH
        connection, now, replay = session.connection(), now_us(), self.replay
        stored = select(Answer.item_id).where(
            Answer.replay_id == replay.id, col(Answer.item_id).in_([item.id for item in items])
        )
        already = set(session.exec(stored))
        answers: list[dict[str, Any]] = []
        scores: list[dict[str, Any]] = []
        for draw, (completions, judged) in enumerate(zip(drawn, scored, strict=True)):
            for place, (item, done) in enumerate(zip(items, completions, strict=True)):
                if item.id in already:
                    continue
                answers.append(
                    {"replay_id": replay.id, "item_id": item.id, "repeat": draw, "text": done.text,
                     "latency_ms": done.latency_ms, "ttft_ms": done.ttft_ms, "input_tokens": done.input_tokens,
                     "output_tokens": done.output_tokens, "mean_logprob": done.mean_logprob, "error": done.error,
                     "is_reused": is_reused, "created_at": now}
                )  # fmt: skip
                scores += [
                    {"project_id": replay.project_id, "evaluator": rater.name, "version": rater.version,
                     "answer_id": len(answers) - 1, "value": found[place].value, "because": found[place].because,
                     "created_at": now}
                    for rater, found in judged
                ]  # fmt: skip
        if not answers:
            return
        self._add_repeats(session, items, scored, already)
        table = METADATA.tables["answer"]
        made = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        keys = connection.execute(made, answers).scalars().all()
        if scores:
            linked = [score | {"answer_id": keys[score["answer_id"]]} for score in scores]
            connection.execute(insert(METADATA.tables["score"]), linked)

    def _add_repeats(
        self, session: Session, items: Sequence[GoldenItem], scored: list[list[tuple[Score, list[Scored]]]],
        already: set[int],
    ) -> None:  # fmt: skip
        """Adds to the replay's row how its judges differ from themselves where they were asked repeatedly.

        The row was changed in this transaction, so no other shard reads it before we are done.
        """
        sums: dict[str, list[float]] = {}
        for judged in scored:
            for rater, found in judged:
                for item, one in zip(items, found, strict=True):
                    if "noise" in one.detail and item.id not in already:
                        so_far = sums.setdefault(rater.name, [0.0, 0.0, 0.0])
                        added = (1.0, float(one.detail["agreement"]), float(one.detail["noise"]))
                        sums[rater.name] = [before + more for before, more in zip(so_far, added, strict=True)]
        if not sums:
            return
        row = session.get_one(Replay, self.replay.id, populate_existing=True)
        judges = dict(row.judges)
        for name, (scores, agreement, noise) in sums.items():
            known = judges.get(name, {}).get("repeats", {"scores": 0, "agreement": 0.0, "noise": 0.0})
            repeats = {
                "scores": known["scores"] + int(scores), "agreement": known["agreement"] + agreement,
                "noise": known["noise"] + noise,
            }  # fmt: skip
            judges[name] = judges.get(name, {}) | {"repeats": repeats}
        row.judges = judges
        session.add(row)
