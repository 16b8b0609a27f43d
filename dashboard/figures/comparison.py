"""One comparison: the interval of the paired difference against the margin."""

import math

from dashboard.figures.canvas import (
    ACCENT,
    BAD,
    BAD_WASH,
    GOOD,
    GOOD_WASH,
    INK,
    SOFT,
    WAIT,
    Drawn,
    blank,
    drawn,
)
from dashboard.formats import share, signed, tone, words
from driftline.store.tables import Comparison

PAINT = {"good": GOOD, "bad": BAD, "wait": WAIT, "quiet": ACCENT}


def interval_figure(comparison: Comparison, height: int = 168) -> Drawn:
    """The difference candidate − baseline with its interval; left of minus the margin is worse than tolerated."""
    c = comparison
    reach = 1.25 * max(abs(c.low), abs(c.high), c.margin * 1.6, 1e-3)
    paint = PAINT[tone(c.verdict)]
    figure = blank(height)
    figure.add_vrect(x0=-reach, x1=-c.margin, fillcolor=BAD_WASH, line={"width": 0}, layer="below")
    figure.add_vrect(x0=-c.margin, x1=reach, fillcolor=GOOD_WASH, line={"width": 0}, layer="below")
    for x, dash in ((0.0, "solid"), (-c.margin, "dash")):
        figure.add_vline(x=x, line={"color": SOFT, "width": 1, "dash": dash})
    figure.add_scatter(
        x=[c.low, c.high], y=[0, 0], mode="lines+markers", line={"color": paint, "width": 5},
        marker={"symbol": "line-ns", "size": 18, "line": {"width": 3, "color": paint}}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[c.estimate], y=[0], mode="markers", marker={"symbol": "diamond", "size": 15, "color": paint},
        hovertemplate=f"{signed(c.estimate)} [{signed(c.low)}, {signed(c.high)}]<extra></extra>",
    )  # fmt: skip
    edge = {"showarrow": False, "yref": "paper", "font": {"color": SOFT, "size": 12}}
    if c.margin:
        figure.add_annotation(x=-c.margin, y=1.0, yanchor="bottom", text=f"−margin {signed(-c.margin)}", **edge)
    figure.add_annotation(x=-reach, y=0.02, xanchor="left", yanchor="bottom", text=" worse than tolerated", **edge)
    figure.add_annotation(x=reach, y=0.02, xanchor="right", yanchor="bottom", text="not worse ", **edge)
    place = c.estimate / reach
    figure.add_annotation(
        x=c.low if place < -0.4 else c.high if place > 0.4 else c.estimate, y=0, yshift=24, showarrow=False,
        xanchor="left" if place < -0.4 else "right" if place > 0.4 else "center", font={"color": INK, "size": 13},
        text=f"<b>{signed(c.estimate)}</b> [{signed(c.low)}, {signed(c.high)}]",
    )  # fmt: skip
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 26, "b": 30})
    ticks = _ticks(reach)
    figure.update_xaxes(
        range=[-reach, reach], tickvals=ticks, ticktext=[signed(t) if t else "0" for t in ticks], showgrid=False
    )
    figure.update_yaxes(visible=False, range=[-1, 1.2])
    label = (
        f"Difference {signed(c.estimate)}, {share(c.level)} interval from {signed(c.low)} to {signed(c.high)}, "
        f"margin {signed(-c.margin)}: {words(c.verdict)}."
    )
    return drawn(figure, "Candidate − baseline", label)


def _ticks(reach: float) -> list[float]:
    """Five round places, symmetric about zero.

    >>> _ticks(0.31)
    [-0.2, -0.1, 0.0, 0.1, 0.2]
    """
    scale = 10.0 ** math.floor(math.log10(reach / 2))
    step = max(m * scale for m in (1, 2, 5) if m * scale <= reach / 2)
    return [round(k * step, 9) for k in range(-2, 3)]
