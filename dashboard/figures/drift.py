"""What a monitor saw, block by block, and how its evidence grew."""

import math
from collections.abc import Sequence

from dashboard.figures.canvas import (
    ACCENT,
    BAD,
    BAD_WASH,
    INK,
    SOFT,
    WAIT,
    Drawn,
    Figure,
    blank,
    drawn,
    moments,
)
from dashboard.formats import number
from driftline.store.tables import DriftEvent, Monitor, Reading, Reference

LOG_10 = math.log(10)
SCALES = (("thousand", 1e3), ("million", 1e6), ("billion", 1e9))
LEAST = -2.0  # evidence below a hundredth is drawn there
TIMED = ("latency", "ttft", "token_time")
AXES = {
    "quality": "mean score", "errors": "share of errors", "empty": "share of empty answers",
    "latency": "mean latency", "ttft": "mean time to first token", "token_time": "mean time per token",
    "invalid_json": "share of invalid JSON", "refusals": "share of refusals", "captured": "share not captured",
    "coverage": "share far from the golden set", "judge": "mean distance to the human label",
}  # fmt: skip


def signal_figure(
    monitor: Monitor, readings: Sequence[Reading], reference: Reference | None, event: DriftEvent | None = None,
    height: int = 300,
) -> Drawn:  # fmt: skip
    """The watched figure per block, the reference it is judged against, and where it changed."""
    figure = blank(height, legend=True)
    timed = monitor.signal in TIMED
    seen = [(reading, value) for reading in readings if (value := plotted(monitor, reading)) is not None]
    at = moments((reading.block_start + reading.block_end) // 2 for reading, _ in seen)
    dots = [(10, BAD) if reading.alarmed else (5, ACCENT) for reading, _ in seen]
    unit = " ms" if timed else ""
    figure.add_scatter(
        x=at, y=[value for _, value in seen], mode="lines+markers" if len(seen) < 150 else "lines",
        name=AXES.get(monitor.signal, f"{monitor.signal} by block"), line={"color": ACCENT, "width": 1.5},
        marker={"opacity": 1, "size": [size for size, _ in dots], "color": [colour for _, colour in dots]},
        customdata=[reading.n for reading, _ in seen],
        hovertemplate=f"%{{y:{',.0f' if timed else '.3f'}}}{unit}, %{{customdata:,}} items<extra></extra>",
    )  # fmt: skip
    for name, value, dash in _levels(monitor, reference, event):
        figure.add_scatter(
            x=[at[0], at[-1]] if at else [], y=[value, value] if at else [], mode="lines",
            name=f"{name} {number(value)}{unit}", line={"color": SOFT, "width": 1.5, "dash": dash}, hoverinfo="skip",
        )  # fmt: skip
    if event is not None:
        _mark_change(figure, event)
        figure.update_layout(margin={"t": 58})
    _span(figure, readings)
    figure.update_yaxes(
        nticks=6, **({"ticksuffix": unit, "tickformat": ",.0f", "rangemode": "tozero"} if timed else {})
    )
    last = f" Last block {number(seen[-1][1])}{unit}." if seen else ""
    return drawn(figure, f"{monitor.signal.capitalize()} by block", f"{len(seen)} blocks of {monitor.name}.{last}")


def _span(figure: Figure, readings: Sequence[Reading]) -> None:
    """The same span of time for a monitor's figures, so that they read down the page."""
    figure.update_xaxes(type="date", showgrid=False)
    figure.update_yaxes(automargin=False)
    figure.update_layout(margin={"l": 66})
    if readings:
        start, end = readings[0].block_start, readings[-1].block_end
        figure.update_xaxes(range=moments((start, end + (end - start) // 60)))


def plotted(monitor: Monitor, reading: Reading) -> float | None:
    """What a reading shows of its block: mean milliseconds for latencies, else the mean that was judged."""
    level = reading.evidence.get("level_mean")
    return float(level) if monitor.signal in TIMED and isinstance(level, int | float) else reading.value


def _levels(monitor: Monitor, reference: Reference | None, event: DriftEvent | None) -> list[tuple[str, float, str]]:
    """Lines to draw across: the reference and how far the stream may go."""
    frozen = reference.frozen if reference else {}
    named = [
        ("reference", frozen.get("mean"), "solid"),
        ("tolerated", frozen.get("m0", frozen.get("bound")), "dash"),
    ]
    if monitor.signal in TIMED:
        effect = event.effect if event else {}
        named = [("reference", effect.get("reference") if effect.get("unit") == "ms" else None, "solid")]
    return [(name, float(value), dash) for name, value, dash in named if isinstance(value, int | float)]


def _mark_change(figure: Figure, event: DriftEvent) -> None:
    if event.began_low is not None and event.began_high is not None:
        low, high = moments((event.began_low, event.began_high))
        figure.add_vrect(x0=low, x1=high, fillcolor=BAD_WASH, line={"width": 0}, layer="below")
    for us, words, colour, dash, side in (
        (event.began_at, "began", BAD, "solid", "right"),
        (event.detected_at, "detected", WAIT, "dot", "left"),
    ):
        if us is None:
            continue
        x = moments((us,))[0]
        figure.add_shape(
            type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": colour, "width": 2, "dash": dash}
        )
        figure.add_annotation(
            x=x, y=1.0, yref="paper", yanchor="bottom", xanchor=side, text=words, showarrow=False,
            font={"color": INK, "size": 12},
        )  # fmt: skip


def evidence_figure(readings: Sequence[Reading], event: DriftEvent | None = None, height: int = 240) -> Drawn:
    """Evidence against "no drift" and the line it has to cross, on a logarithmic scale.

    Statistic and threshold are natural logarithms; the axis shows the numbers themselves.
    """
    figure = blank(height, legend=True)
    at = moments(reading.block_end for reading in readings)
    heights = [max(LEAST, reading.statistic / LOG_10) for reading in readings]
    lines = [reading.threshold / LOG_10 for reading in readings]
    figure.add_scatter(
        x=at, y=heights, mode="lines", name="evidence", line={"color": ACCENT, "width": 2}, fill="tozeroy",
        fillcolor="var(--accent-wash)", customdata=[_count(height) for height in heights],
        hovertemplate="evidence %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=at, y=lines, mode="lines", name="alarm line", line={"color": BAD, "width": 2, "dash": "dash"},
        customdata=[_count(line) for line in lines], hovertemplate="alarm at %{customdata}<extra></extra>",
    )  # fmt: skip
    hits = [(x, height) for x, height, reading in zip(at, heights, readings, strict=True) if reading.alarmed]
    if hits:
        figure.add_scatter(
            x=[hits[0][0]], y=[hits[0][1]], mode="markers", name="alarm",
            marker={"size": 11, "color": BAD, "symbol": "diamond"}, hoverinfo="skip",
        )  # fmt: skip
    if event is not None and event.began_at is not None:
        x = moments((event.began_at,))[0]
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": BAD, "width": 1})
    top = max([1.0, *heights, *lines])
    step = max(1, round(top / 6))
    ticks = list(range(0, math.ceil(top) + 1, step))
    figure.update_yaxes(
        tickvals=ticks, ticktext=[_power(tick) for tick in ticks], range=[min([0.0, *heights]), top * 1.1]
    )
    _span(figure, readings)
    label = f"Evidence over {len(readings)} blocks, at last {_count(heights[-1])}." if heights else "No evidence yet."
    return drawn(figure, "Evidence against “no drift”", label)


def _power(exponent: float) -> str:
    """Ten to the exponent as a tick says it.

    >>> _power(2), _power(6)
    ('100', '10<sup>6</sup>')
    """
    return f"{10**exponent:,.0f}" if 0 <= exponent < 4 else f"10<sup>{exponent:.0f}</sup>"


def _count(exponent: float) -> str:
    """Ten to the exponent in words.

    >>> _count(2), _count(6.54), _count(-0.3), _count(40)
    ('100', '3.5 million', '0.5', '10^40')
    """
    if exponent >= 12:
        return f"10^{exponent:.0f}"
    value = 10.0**exponent
    if value < 1e4:
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    name, scale = next((name, scale) for name, scale in SCALES if value < scale * 1e3)
    return f"{value / scale:.0f} {name}" if value >= 10 * scale else f"{value / scale:.2g} {name}"
