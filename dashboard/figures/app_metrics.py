"""A metric that apps export, over time: one line for each set of labels."""

from collections.abc import Sequence

from dashboard.figures.canvas import SERIES, Drawn, blank, drawn, moments, plain
from dashboard.metric_series import MetricSpan
from dashboard.windows import Window


def metric_figure(name: str, unit: str, spans: Sequence[MetricSpan], window: Window, height: int = 230) -> Drawn:
    """The mean per span where measurements were counted, else what was added; the fullest six sets of labels."""
    lines: dict[str, list[MetricSpan]] = {}
    for span in spans:
        lines.setdefault(", ".join(span.labels[key] for key in sorted(span.labels)) or name, []).append(span)
    fullest = sorted(lines, key=lambda label: -sum(span.n or 1 for span in lines[label]))[: len(SERIES)]
    figure = blank(height, legend=len(fullest) > 1)
    means = any(span.n for span in spans)
    for label, colour in zip(sorted(fullest), SERIES, strict=False):
        points = [span for span in lines[label] if span.mean is not None or not means]
        figure.add_scatter(
            x=moments(span.at + window.step // 2 for span in points),
            y=[span.mean if means else span.total for span in points],
            mode="lines+markers", name=plain(label), line={"color": colour, "width": 2}, marker={"size": 5},
            hovertemplate="%{y:,.4g} <extra>" + plain(label) + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(type="date", showgrid=False)
    figure.update_yaxes(rangemode="tozero", nticks=5)
    what = "mean" if means else "added"
    shown = f"{name}, {what} per span" + (f", {unit}" if unit else "")
    return drawn(figure, plain(shown), f"{shown} over {window.words}: {len(lines)} sets of labels.")
