"""Traffic over time, per variant: how many calls, how slow."""

from collections.abc import Mapping, Sequence

from dashboard.figures.canvas import SERIES, Drawn, blank, colours, drawn, moments, plain
from dashboard.measures import Traffic
from dashboard.windows import Window


def _by_variant(series: Sequence[Traffic]) -> dict[int, list[Traffic]]:
    found: dict[int, list[Traffic]] = {}
    for point in series:
        found.setdefault(point.variant_id, []).append(point)
    return found


def volume_figure(series: Sequence[Traffic], names: Mapping[int, str], window: Window, height: int = 230) -> Drawn:
    """Calls per step, stacked by variant."""
    parts = _by_variant(series)
    figure, paint = blank(height, legend=len(parts) > 1), colours(names)
    for variant_id, points in parts.items():
        figure.add_bar(
            x=moments(p.at + window.step // 2 for p in points), y=[p.n for p in points], name=plain(names[variant_id]),
            marker={"color": paint[variant_id], "line": {"width": 0}}, width=window.step / 1000 * 0.9,
            hovertemplate="%{y:,} calls",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0, legend={"traceorder": "normal"})
    figure.update_xaxes(showgrid=False, type="date")
    figure.update_yaxes(rangemode="tozero", tickformat="~s", nticks=5)
    total = sum(point.n for point in series)
    return drawn(figure, "Calls", f"Calls per span over {window.words}: {total:,} calls on {len(parts)} variants.")


def latency_figure(series: Sequence[Traffic], names: Mapping[int, str], window: Window, height: int = 230) -> Drawn:
    """Median and 95th percentile per step and variant: a solid and a dotted line of one colour."""
    figure, paint = blank(height, legend=len(names) > 1), colours(names)
    for variant_id, points in _by_variant(series).items():
        known = [p for p in points if p.p50_ms is not None]
        at = moments(p.at + window.step // 2 for p in known)
        mode = "lines+markers" if len(known) < 40 else "lines"
        for quantile, values, dash in (
            ("p50", [p.p50_ms for p in known], "solid"),
            ("p95", [p.p95_ms for p in known], "dot"),
        ):
            figure.add_scatter(
                x=at, y=values, mode=mode, name=plain(names[variant_id]), legendgroup=str(variant_id),
                showlegend=quantile == "p50",
                line={"color": paint[variant_id], "width": 2, "dash": dash}, marker={"size": 5},
                hovertemplate=f"%{{y:,.0f}} ms <extra>{plain(names[variant_id])} {quantile}</extra>",
            )  # fmt: skip
    figure.update_xaxes(type="date", showgrid=False)
    figure.update_yaxes(rangemode="tozero", ticksuffix=" ms", nticks=5)
    return drawn(
        figure, "Latency: p50 solid, p95 dotted", f"Median and 95th percentile of latency over {window.words}."
    )


def quality_figure(
    points: Sequence[tuple[int, float, int]], evaluator: str, window: Window, height: int = 230
) -> Drawn:
    """Mean score per step; each point's start, mean and number of scores."""
    figure = blank(height)
    figure.add_scatter(
        x=moments(start + window.step // 2 for start, _, _ in points), y=[mean for _, mean, _ in points],
        mode="lines+markers", line={"color": SERIES[0], "width": 2}, marker={"size": 5},
        customdata=[n for _, _, n in points], hovertemplate="%{y:.3f}, %{customdata} scored<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="date", showgrid=False)
    figure.update_yaxes(range=[0, 1.02], nticks=6)
    total = sum(n for _, _, n in points)
    title = f"Quality by {plain(evaluator)}, {total:,} scored answers"
    return drawn(figure, title, f"Mean score per span over {window.words}, {total:,} scored answers.")
