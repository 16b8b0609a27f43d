"""What all charts share: one quiet layout, colours by name that the page fills in for light and dark.

Colours are written `var(--name)`; the script replaces them by what the style sheet says: charts follow the theme.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from driftline.moment import iso

INK, SOFT, FAINT = "var(--ink)", "var(--ink-soft)", "var(--line)"
GOOD, BAD, WAIT, ACCENT = "var(--good)", "var(--bad)", "var(--wait)", "var(--accent)"
BAD_WASH, WAIT_WASH, GOOD_WASH = "var(--bad-wash)", "var(--wait-wash)", "var(--good-wash)"
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
AXIS = {"showgrid": True, "gridcolor": FAINT, "zeroline": False, "linecolor": FAINT, "tickcolor": FAINT,
        "automargin": True, "fixedrange": True}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure for a page: Plotly's JSON, safe inside a script element; what it shows, in words; its height, px."""

    title: str
    label: str
    figure: Markup
    height: int


@dataclass(slots=True)
class Figure:
    """Plotly's JSON of one figure, with the methods of its own Figure: that one checks, which takes 40 ms a figure.

    Nothing is checked here; the tests hand what pages draw to Plotly's.
    """

    data: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)

    def add_scatter(self, **told: Any) -> None:
        """Adds lines or marks."""
        self.data.append({"type": "scatter", **told})

    def add_bar(self, **told: Any) -> None:
        """Adds bars."""
        self.data.append({"type": "bar", **told})

    def add_shape(self, **told: Any) -> None:
        """Adds a line or a rectangle."""
        self.layout.setdefault("shapes", []).append(told)

    def add_vrect(self, **told: Any) -> None:
        """Shades from `x0` to `x1`."""
        self.add_shape(type="rect", xref="x", y0=0, y1=1, yref="y domain", **told)

    def add_vline(self, x: float, **told: Any) -> None:
        """Draws a line from the bottom to the top."""
        self.add_shape(type="line", xref="x", x0=x, x1=x, y0=0, y1=1, yref="y domain", **told)

    def add_annotation(self, **told: Any) -> None:
        """Writes a text at a place."""
        self.layout.setdefault("annotations", []).append(told)

    def update_layout(self, **told: Any) -> None:
        """Says how it looks; a dict adds to what was said before."""
        _merge(self.layout, told)

    def update_xaxes(self, **told: Any) -> None:
        """Says how the horizontal axis looks."""
        self.update_layout(xaxis=told)

    def update_yaxes(self, **told: Any) -> None:
        """Says how the vertical axis looks."""
        self.update_layout(yaxis=told)


def _merge(known: dict[str, Any], told: Mapping[str, Any]) -> None:
    for name, value in told.items():
        if isinstance(value, Mapping):
            _merge(known.setdefault(name, {}), value)
        else:
            known[name] = value


def blank(height: int, *, legend: bool = False) -> Figure:
    """An empty figure in the house's layout."""
    figure = Figure()
    figure.update_layout(
        height=height, margin={"l": 8, "r": 12, "t": 10 if not legend else 40, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": SOFT, "size": 12},
        showlegend=legend, hovermode="x unified",
        legend={
            "orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top",
            "font": {"size": 12, "color": INK},
        },
        hoverlabel={"bgcolor": "var(--raised)", "bordercolor": FAINT, "font": {"color": INK}},
        xaxis=AXIS, yaxis=AXIS,
    )  # fmt: skip
    return figure


def drawn(figure: Figure, title: str, label: str) -> Drawn:
    """The figure as it goes into a page. `label` says in a sentence what it shows, for those who cannot see it."""
    told = {"data": figure.data, "layout": figure.layout}
    try:
        text = json.dumps(told, allow_nan=False, default=float, separators=(",", ":"))
    except ValueError:  # no number, or an infinite one, which JSON does not know: a gap
        text = json.dumps(_finite(told), default=float, separators=(",", ":"))
    for dangerous, harmless in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(dangerous, harmless)
    return Drawn(title, label, Markup(text), int(figure.layout["height"]))  # noqa: S704  nothing in it can end the script


def _finite(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {name: _finite(value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [_finite(value) for value in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


def plain(text: str) -> str:
    """A name as Plotly shows it letter by letter: it reads a few tags, and names come from outside.

    >>> plain("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def colours(keys: Iterable[Any]) -> dict[Any, str]:
    """A colour for each key, the same for the same keys whatever their order."""
    return {key: SERIES[place % len(SERIES)] for place, key in enumerate(sorted(keys))}


def moments(times: Iterable[int]) -> list[str]:
    """Moments as Plotly reads them, UTC."""
    return [_moment(us) for us in times]


@lru_cache(maxsize=4096)  # variants of a figure share their moments, and so does the next look at it
def _moment(us: int) -> str:
    return iso(us)[:-1]
