"""What all charts share: one quiet layout, colours by name that the page fills in for light and dark.

Colours are written `var(--name)`; the script replaces them by what the style sheet says: charts follow the theme.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from driftline.moment import iso

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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


def blank(height: int, *, legend: bool = False) -> "Figure":
    """An empty figure in the house's layout."""
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(
        template=None, height=height, margin={"l": 8, "r": 12, "t": 10 if not legend else 40, "b": 8},
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


def drawn(figure: "Figure", title: str, label: str) -> Drawn:
    """The figure as it goes into a page. `label` says in a sentence what it shows, for those who cannot see it."""
    text = figure.to_json()
    for dangerous, harmless in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(dangerous, harmless)
    return Drawn(title, label, Markup(text), int(figure.layout.height))  # noqa: S704  nothing in it can end the script


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
    return [iso(us)[:-1] for us in times]
