"""Plans by cause: what could repair a variant, as recipes of candidates. Only methods that are registered are offered.

| cause | what is tried |
|---|---|
| `variant` | more bits, sensitive layers spared, rounding recalibrated on recent prompts, training that recovers |
| `input` | examples of the new prompts in the prompt, LoRA, distillation, fresh documents for retrieval |
| `latency`, `cost` | the same numbers faster, fewer bits, fewer layers, a cache, a cascade |
| `third_party` | another variant that is known, the same one asked differently, going back to the baseline |
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from driftline.errors import BadInput
from driftline.names import name_after
from variants.methods import METHODS
from variants.recipe import Spec

Candidate = dict[str, Any]  # {"name", "spec", "why"}
Named = tuple[str, dict[str, Any]]
ELSEWHERE = frozenset({"openai", "anthropic", "recorded", "python", "external"})  # runners whose model is not made here
SPOKEN = frozenset({"recorded", "external"})  # of these, what they said is all there is
INTEGERS = frozenset({"int8_dynamic", "int8_weight_only", "int4_weight_only", "int4_per_row", "int4_group", "gptq"})
LEAST_PROMPTS = 8


@dataclass(frozen=True, slots=True)
class Ground:
    """What a plan stands on.

    Attributes:
        name: The variant that shall be replaced.
        spec: How it is made.
        baseline: Name and spec of the route's baseline.
        others: Other variants of the project that could answer.
        traffic: Path of recent prompts with answers (JSONL) that may be trained on; None where there are too few.
        prompts: Texts of recent prompts that may be used.
        shots: Recent questions with their true answers.
        documents: A folder of fresh documents for retrieval.
    """

    name: str
    spec: dict[str, Any]
    baseline: Named | None = None
    others: Sequence[Named] = ()
    traffic: str | None = None
    prompts: Sequence[str] = ()
    shots: Sequence[tuple[str, str]] = ()
    documents: str | None = None

    @property
    def last(self) -> str:
        """The method of the last step of the chain."""
        chain = self.spec.get("chain") or [{"method": ""}]
        return str(chain[-1]["method"])


@dataclass(frozen=True, slots=True)
class Option:
    """One step that may help.

    `config` makes the step's config from the ground, None where something is missing that `needs` names. `instead`:
    it replaces the last step of the chain; otherwise it goes where it may stand, as late as possible.
    """

    method: str
    why: str
    config: Callable[[Ground], dict[str, Any] | None] = field(default=lambda _: {})
    instead: bool = False
    needs: str = ""
    label: str = ""


def candidates_for(
    name: str, spec: dict[str, Any], baseline: Named | None, *, cause: str = "variant", most: int = 5, **ground: Any
) -> list[Candidate]:
    """Candidates that may replace a variant, cheapest first, at most `most`; see `plan_for`."""
    return plan_for(Ground(name, spec, baseline, **ground), cause)[0][:most]


def plan_for(ground: Ground, cause: str) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Candidates, cheapest first, and what was left out because of what.

    A variant whose model is elsewhere (an API, recorded answers) cannot be made differently: it can be asked
    differently, or others can take its place.
    """
    if ground.spec.get("runner") in ELSEWHERE or not ground.spec.get("chain"):
        cause = "third_party"
    can_be_asked = ground.spec.get("runner") not in SPOKEN
    candidates, left_out = list(_known(ground)) if cause == "third_party" else [], []
    seen = {Spec.from_json(ground.spec).content_hash} if ground.spec.get("runner") != "external" else set()
    for option in _options(ground, cause) if can_be_asked else ():
        if option.method not in METHODS:
            continue
        config = option.config(ground)
        if config is None:
            left_out.append({"method": option.method, "because": option.needs})
            continue
        step = {"method": option.method, "config": config}
        if step in ground.spec.get("chain", ()) or _again(ground, option):
            continue
        made = _placed(ground.spec, step, instead=option.instead)
        if made is None or made.content_hash in seen:
            continue
        seen.add(made.content_hash)
        label = option.label or option.method
        candidates.append(
            {
                "name": f"{name_after(ground.name)}-repair-{label}".replace("_", "-"),
                "spec": made.to_json(),
                "why": option.why,
            }
        )
    return candidates, left_out


def _again(ground: Ground, option: Option) -> bool:
    """Whether it would make integers of what are integers already."""
    done = {step["method"] for step in ground.spec.get("chain", ())}
    return option.method in INTEGERS and not option.instead and bool(done & INTEGERS)


def _known(ground: Ground) -> Iterator[Candidate]:
    if ground.baseline is not None and ground.baseline[0] != ground.name:
        yield {"name": ground.baseline[0], "spec": ground.baseline[1], "why": "go back to the baseline"}
    for name, spec in ground.others:
        if name not in (ground.name, ground.baseline[0] if ground.baseline else ""):
            yield {"name": name, "spec": spec, "why": "a variant that is known already may do as well"}


def _placed(spec: dict[str, Any], step: dict[str, Any], *, instead: bool) -> Spec | None:
    """The spec with the step in it; None where it can stand nowhere."""
    chain = list(spec.get("chain", ()))
    if instead:
        chain = chain[:-1] if len(chain) > 1 else chain
    for place in range(len(chain), -1, -1):
        try:
            return Spec.from_json({**spec, "chain": [*chain[:place], step, *chain[place:]]})
        except BadInput:
            continue
    return None


def _options(ground: Ground, cause: str) -> Iterator[Option]:
    if cause == "variant":
        found = [*REPAIRS.get(ground.last, ()), *RETRAINED]
        yield from found if REPAIRS.get(ground.last) else [*found, BF16]
        return
    yield from BY_CAUSE.get(cause, ())


def _skip(*layers: str) -> Callable[[Ground], dict[str, Any]]:
    return lambda _: {"skip": list(layers)}


def _calibrated(ground: Ground) -> dict[str, Any] | None:
    texts = [text for text in ground.prompts if text.strip()][:64]
    return {"calibration": texts} if len(texts) >= LEAST_PROMPTS else None


def _data(**config: Any) -> Callable[[Ground], dict[str, Any] | None]:
    return lambda ground: {"data": ground.traffic, **config} if ground.traffic else None


def _cascade(ground: Ground) -> dict[str, Any] | None:
    return {"large": ground.baseline[1]} if ground.baseline and ground.baseline[0] != ground.name else None


_TRAFFIC = "too little recent traffic that may be trained on (the tag consent=training)"
BF16 = Option("bf16", "half precision instead of what was done last", instead=True)
_INT8 = Option("int8_weight_only", "more bits: eight per weight, activations left as they are", instead=True)
_GPTQ = Option(
    "gptq", "rounding calibrated anew on recent prompts", _calibrated, instead=True,
    needs=f"fewer than {LEAST_PROMPTS} recent prompts that may be used", label="gptq-recalibrated",
)  # fmt: skip
_GROUPS = Option("int4_group", "more scales: one per group of weights instead of one per row", instead=True)
_MIXED = Option(
    "int4_group", "mixed precision: the layers that tolerate least keep their bits", _skip("lm_head", "down_proj"),
    instead=True, label="mixed",
)  # fmt: skip
_SPARING = Option(
    "int8_dynamic", "mixed precision: keep the layers with activation outliers in full precision",
    _skip("down_proj", "lm_head"), instead=True,
)  # fmt: skip
REPAIRS: dict[str, tuple[Option, ...]] = {
    "int8_dynamic": (_SPARING, _INT8, BF16),
    "int4_per_row": (_GROUPS, _GPTQ, _MIXED, _INT8, BF16),
    "int4_group": (_GPTQ, _MIXED, _INT8, BF16),
    "gptq": (_GPTQ, _MIXED, _INT8, BF16),
    "int4_weight_only": (_INT8, BF16),
    "int8_weight_only": (BF16,),
}
RETRAINED = (
    Option("recover", "recover by training on recent traffic what was lost", _data(steps=100), needs=_TRAFFIC),
)  # fmt: skip
_SHOTS = Option(
    "prompt_template", "recent questions with their true answers as examples in the prompt",
    lambda ground: {"shots": [list(shot) for shot in ground.shots[:3]]} if len(ground.shots) >= 3 else None,
    needs="fewer than 3 recent questions with true answers that may be used", label="shots",
)  # fmt: skip
_BRIEF = Option(
    "prompt_template", "asked differently: for the answer alone",
    lambda _: {"system": "Answer what is asked, correctly and briefly, and nothing else."}, label="brief",
)  # fmt: skip
BY_CAUSE: dict[str, tuple[Option, ...]] = {
    "input": (
        _SHOTS,
        _BRIEF,
        Option("lora", "a LoRA adapter trained on recent traffic", _data(steps=100), needs=_TRAFFIC),
        Option("distill", "distilled anew on recent prompts", _data(steps=100, mlp_keep=0.9), needs=_TRAFFIC),
        Option(
            "rag", "retrieval from fresh documents",
            lambda ground: {"documents": ground.documents} if ground.documents else None, needs="no `documents` given",
        ),
    ),
    "latency": (
        Option("packed", "the same numbers in a layout that decodes faster"),
        Option("int8_weight_only", "fewer bits to move per token"),
        Option("layer_drop", "the two layers that matter least left out", lambda _: {"count": 2}),
        Option("response_cache", "answers that were given before come from a cache"),
    ),
    "cost": (
        Option("response_cache", "answers that were given before come from a cache"),
        Option("semantic_cache", "answers to questions of the same meaning come from a cache"),
        Option("int8_weight_only", "fewer bits per weight"),
        Option("cascade", "the small model answers, and asks the baseline when unsure", _cascade,
               needs="no other baseline to ask"),
    ),
    "third_party": (_SHOTS, _BRIEF),
}  # fmt: skip
