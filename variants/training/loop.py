"""The one training loop: AdamW with warm-up and decay, in mixed precision, on whatever devices there are."""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from variants.loading import INSTALL
from variants.lookup import need
from variants.measure import peak_rss
from variants.method import Say
from variants.training.corpus import Tokens, batch_of
from variants.training.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedModel

Loss = Callable[["PreTrainedModel", dict[str, Any]], "torch.Tensor"]
SAY_EVERY = 5  # steps; also how soon a cancelled training notices
FLOOR = 0.1  # of the learning rate, where the decay ends
CLIP = 1.0  # most that the gradients' norm may be


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to judge by."""

    learn: list[Tokens]
    judge: list[Tokens]


def split(rows: Sequence[Tokens], hold_out: float) -> Split:
    """Every n-th row held out, so that about a share of `hold_out` judges; all learn where there are too few."""
    if not hold_out or len(rows) * hold_out < 1:
        return Split(list(rows), [])
    every = max(2, round(1 / hold_out))
    return Split([r for n, r in enumerate(rows) if (n + 1) % every], rows[every - 1 :: every])  # type: ignore[arg-type]


def answer_loss(model: "PreTrainedModel", batch: dict[str, Any]) -> "torch.Tensor":
    """Mean cross entropy, nats per answer token."""
    loss: torch.Tensor = model(**batch, use_cache=False).loss
    return loss


def train(
    model: "PreTrainedModel",
    rows: Split,
    plan: Plan,
    pad: int,
    say: Say,
    loss_of: Loss = answer_loss,
    after_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Trains what of `model` asks for gradients, in place; losses before and after, and the memory it took.

    `after_step` runs after every update (as for holding pruned weights at zero). To cancel, raise from `say`.
    """
    import torch

    accelerator = _accelerator(plan.precision)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, plan.steps, plan.warmup))
    order = torch.Generator().manual_seed(plan.seed)
    with _seeded(plan.seed):
        before = judged(model, rows.judge or rows.learn[:16], plan, pad, loss_of)
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
        model.train()
        peak_rss(reset=True)
        losses: list[float] = []
        for step, batch in enumerate(_batches(rows.learn, plan, pad, order, accelerator)):
            loss = loss_of(model, {name: value.to(accelerator.device) for name, value in batch.items()})
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trainable, CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            after_step()
            losses.append(float(loss.detach()))
            if step % SAY_EVERY == 0 or step + 1 == plan.steps:
                say(f"step {step + 1} of {plan.steps}, loss {losses[-1]:.3f}")
        peak = peak_rss()
        accelerator.unwrap_model(model).train(False)
        after = judged(model, rows.judge or rows.learn[:16], plan, pad, loss_of)
    held = {"held_out": float(len(rows.judge)), "loss_before": before, "loss_after": after}
    return {
        **held,
        "steps": float(plan.steps),
        "trained_on": float(len(rows.learn)),
        "training_peak_rss_bytes": float(peak),
    }


def judged(model: "PreTrainedModel", rows: Sequence[Tokens], plan: Plan, pad: int, loss_of: Loss) -> float:
    """Mean loss of `rows`, without learning from them."""
    import torch

    model.train(False)
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(rows), plan.batch_size):
            part = rows[first : first + plan.batch_size]
            total += float(loss_of(model, batch_of(part, pad))) * len(part)
    return total / len(rows)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at `step`: a linear rise over `warmup` of the steps, then a cosine to a tenth.

    >>> [round(rate(step, 10, 0.2), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.13]
    """
    rising = max(1, round(steps * warmup))
    if step < rising and warmup:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


def _batches(
    rows: Sequence[Tokens], plan: Plan, pad: int, order: "torch.Generator", accelerator: Any
) -> "Iterator[dict[str, Any]]":
    """`plan.steps` batches of the places that `order_of` draws; each process takes its own share of a batch."""
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    for taken in order_of(len(rows), plan, order):
        yield batch_of([rows[place] for place in (taken[share] or taken[:1])], pad)


def order_of(rows: int, plan: Plan, order: "torch.Generator") -> "Iterator[list[int]]":
    """Which of the `rows` stand in each of the plan's batches: each epoch in a new order."""
    import torch

    waiting: list[int] = []
    for _ in range(plan.steps):
        while len(waiting) < plan.batch_size:
            waiting += torch.randperm(rows, generator=order).tolist()
        taken, waiting = waiting[: plan.batch_size], waiting[plan.batch_size :]
        yield taken


def _accelerator(precision: str) -> Any:
    need("accelerate", "Training", INSTALL)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # another training in this process may have run in another precision
    return Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")


@contextmanager
def _seeded(seed: int) -> "Iterator[None]":
    """Torch's own randomness from `seed`, as it was before at the end."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
