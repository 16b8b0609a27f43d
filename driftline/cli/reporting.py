"""What a gate leaves behind for CI: JUnit XML for its test report, Markdown for people."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from driftline.names import one_line

PASSING = ("better", "equivalent", "not_worse")
SIGNS = {"better": "✅", "equivalent": "✅", "not_worse": "✅", "worse": "❌", "undecided": "❔"}


@dataclass
class Gated:
    """A gate's question and what came of it: comparisons, the one that decides, or why there is none."""

    candidate: str
    baseline: str
    golden: str
    margin: float
    judged: list[dict[str, Any]] = field(default_factory=list)
    deciding: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def sentence(self) -> str:
        """The verdict and what it rests on; for a gate that has one."""
        found = self.deciding
        if found is None:
            return f"{self.candidate} against {self.baseline}: could not be judged. {self.problem}"
        needed = found["n_to_decide"]
        hint = f" About {needed} items would decide." if found["verdict"] == "undecided" and needed else ""
        as_seen = found.get("n_if_as_seen")
        if hint and as_seen and as_seen < needed:
            hint = f"{hint[:-1]}, or about {as_seen} if the difference is as large as it looks."
        left_out = f" {found['unscored']} more could not be scored." if found.get("unscored") else ""
        early = f" The replay ended early: {found['stopped']}." if found.get("stopped") else ""
        return (
            f"{self.candidate} against {self.baseline}: {found['verdict']}. {found['evaluator']} "
            f"{found['estimate']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] on {found['n']} items, "
            f"margin {self.margin}.{left_out}{hint}{early}"
        )

    @property
    def moved(self) -> list[dict[str, Any]]:
        """The slices that are found worse or better."""
        slices = (self.deciding or {}).get("slices") or []
        return [one for one in slices if one["verdict"] in ("worse", "better")]


def write_junit(gated: Gated, path: Path | None) -> None:
    """A test suite of one case, which fails where the candidate does not pass and is an error where it could not run.

    Raises:
        OSError: The file cannot be written.
    """
    if path is None:
        return
    verdict = gated.deciding["verdict"] if gated.deciding else None
    failed, broken = int(verdict is not None and verdict not in PASSING), int(verdict is None)
    counts = {"tests": "1", "failures": str(failed), "errors": str(broken)}
    suite = Xml.Element("testsuite", {"name": "driftline gate"} | counts)
    name = f"{gated.candidate} is not worse than {gated.baseline} on {gated.golden}"
    case = Xml.SubElement(suite, "testcase", {"classname": "driftline.gate", "name": name})
    if failed or broken:
        kind, tag = (verdict, "failure") if verdict else ("could not run", "error")
        Xml.SubElement(case, tag, {"type": str(kind), "message": _printable(gated.sentence)})
    Xml.SubElement(case, "system-out").text = _printable(summary(gated))
    path.write_bytes(Xml.tostring(suite, encoding="utf-8", xml_declaration=True))


def write_markdown(gated: Gated, path: Path | None) -> None:
    """Appends the summary, as CI systems collect them from several steps in one file.

    Raises:
        OSError: The file cannot be written.
    """
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary(gated) + "\n")


def summary(gated: Gated) -> str:
    """The verdict, every evaluator, what it costs and which slices moved, in Markdown."""
    verdict = gated.deciding["verdict"] if gated.deciding else "could not run"
    name = one_line(gated.candidate)
    lines = [f"## {SIGNS.get(verdict, '⚠️')} {name}: {verdict.replace('_', ' ')}", "", one_line(gated.sentence), ""]
    return "\n".join([*lines, *_evaluators(gated), *_judges(gated), *_costs(gated), *_slices(gated)])


def _evaluators(gated: Gated) -> Iterator[str]:
    if gated.judged:
        yield "| evaluator | verdict | difference | interval | items | worse | better | errors |"
        yield "|---|---|---|---|---|---|---|---|"
    for one in gated.judged:
        yield (
            f"| {one['evaluator']} | {one['verdict']} | {one['estimate']:+.4f} | {one['low']:+.4f} to "
            f"{one['high']:+.4f} | {one['n']} | {one['worse']} | {one['better']} | {len(one.get('errors') or [])} |"
        )
    yield ""
    if beside := (gated.deciding or {}).get("bca"):
        warning = f" ({beside['warning']})" if beside["warning"] else ""
        yield f"- Beside it, by BCa bootstrap: {beside['low']:+.4f} to {beside['high']:+.4f}{warning}"
        yield ""


def _judges(gated: Gated) -> Iterator[str]:
    for one in gated.judged:
        judge = one.get("judge") or {}
        if "own_reach" in judge:
            yield (
                f"- {one['evaluator']} agrees with itself in {judge['agreement']:.0%} of pairs of repeats (baseline "
                f"{judge['baseline_agreement']:.0%}); its own noise alone makes ± {judge['own_reach']:.4f} of the "
                "interval"
            )
        if "drift" in judge:
            yield (
                f"- {one['evaluator']} moved by {judge['drift']:+.4f} ± {judge['reach']:.4f} on {judge['anchors']} "
                "anchors; this is taken out"
            )
    if any(one.get("judge") for one in gated.judged):
        yield ""


def _costs(gated: Gated) -> Iterator[str]:
    costs = (gated.deciding or {}).get("costs") or []
    if costs:
        yield f"| cost | {_cell(gated.candidate)} | {_cell(gated.baseline)} | ratio |"
        yield "|---|---|---|---|"
    for one in costs:
        reach = f" [{one['low']:.2f}, {one['high']:.2f}]" if "low" in one else ""
        yield (
            f"| {one['name']}, {one['unit']} | {one['candidate']:.4g} | {one['baseline']:.4g} "
            f"| {one['ratio']:.2f}×{reach} |"
        )
    if costs:
        yield ""


def _cell(name: str) -> str:
    return one_line(name).replace("|", "\\|")


def _slices(gated: Gated) -> Iterator[str]:
    for one in gated.moved:
        yield f"- {one['slice']} is {one['verdict']}: {one['estimate']:+.4f} on {one['n']} items"


def _printable(text: str) -> str:
    """What XML can hold."""
    return "".join(
        char if char in "\t\n" or (ord(char) >= 32 and not 0xD800 <= ord(char) <= 0xDFFF) else "\ufffd" for char in text
    )
