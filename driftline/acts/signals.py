"""What can be watched: per signal its detector, direction and margin, and where its values come from."""

from dataclasses import dataclass
from typing import Any, Literal

Reads = Literal["traffic", "scores", "runs"]

WEEK_S, DAY_S = 7 * 86_400.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of stream.

    Attributes:
        about: What a value is, in a few words.
        detector: A key of `evaluators.drift.DETECTORS`.
        direction: The side that alarms.
        margin: The change that does not matter, unless the monitor says otherwise.
        reads: "traffic" (columns of records), "scores" (what an evaluator said of them) or "runs" (what a job of ours
            measures every `every_s` seconds: probes, anchors, captured shares, replays).
        needs: What a monitor's source names: "evaluator", "golden" or nothing.
        source: The evaluator of a signal that always reads the same one.
        every_s: Seconds between two runs.
        embeds: Whether prompts are embedded, so that few of a block are looked at.
    """

    about: str
    detector: str
    direction: Literal["rise", "fall"]
    margin: float
    reads: Reads = "traffic"
    needs: Literal["", "evaluator", "golden"] = ""
    source: str = ""
    every_s: float = 0.0
    embeds: bool = False
    form: Literal["block", "item"] = "block"

    @property
    def timed(self) -> bool:
        """Whether values have a unit of their own (milliseconds, money), so that lines are frozen and not a mean."""
        return self.detector == "exceedance"

    def params(self) -> dict[str, Any]:
        """What a new monitor of this signal starts with."""
        runs = {"every_s": self.every_s} if self.reads == "runs" else {}
        return {"detector": self.detector, "direction": self.direction, "margin": self.margin, **runs}


SIGNALS: dict[str, Signal] = {
    "errors": Signal("failed", "esr", "rise", 0.01),
    "empty": Signal("answered with nothing", "esr", "rise", 0.01),
    "invalid_json": Signal("answered with what is no JSON", "esr", "rise", 0.01, "scores", source="json_valid"),
    "refusals": Signal("refused to answer", "esr", "rise", 0.01, "scores", source="refusal"),
    "quality": Signal("score of an evaluator", "esr", "fall", 0.01, "scores", "evaluator"),
    "latency": Signal("milliseconds to the last byte", "exceedance", "rise", 0.10),
    "ttft": Signal("milliseconds to the first token", "exceedance", "rise", 0.10),
    "token_time": Signal("milliseconds per output token after the first", "exceedance", "rise", 0.10),
    "cost": Signal("nano-dollars", "exceedance", "rise", 0.05),
    "prompt_length": Signal("length of the prompt", "shares", "rise", 0.02),
    "answer_length": Signal("length of the answer", "shares", "rise", 0.02),
    "prompt_language": Signal("language of the prompt", "shares", "rise", 0.02),
    "prompt_clusters": Signal("kind of prompt, by embedding", "shares", "rise", 0.02, embeds=True),
    "prompt_embedding": Signal("distance to known prompts, by embedding", "conformal", "rise", 0.02, embeds=True),
    "coverage": Signal(
        "farther from every golden item than those from each other", "esr", "rise", 0.02, needs="golden", embeds=True
    ),
    "answers": Signal(
        "golden answers before and now", "paired-texts", "rise", 0.0, "runs", "golden", every_s=DAY_S
    ),
    "probes": Signal(
        "golden answers weighed otherwise than before", "esr", "rise", 0.02, "runs", "golden", every_s=DAY_S,
        form="item",
    ),
    "border": Signal(
        "first tokens of prompts on the border, distance to their reference", "esr", "rise", 0.05, "runs",
        every_s=DAY_S, form="item",
    ),
    "judge": Signal(
        "judge minus human label on fixed anchors", "esr", "rise", 0.01, "runs", "evaluator", every_s=DAY_S,
        form="item",
    ),
    "captured": Signal("share of calls that was not captured", "esr", "rise", 0.01, "runs", every_s=60.0),
}  # fmt: skip
