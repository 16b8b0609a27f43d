"""A figure's JSON: what Plotly's own Figure would make of the same calls."""

import json
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.canvas import blank, drawn


def draw(figure: Any) -> None:
    """What the figures of the pages call."""
    figure.add_scatter(x=["2026-01-01", "2026-01-02"], y=[1.5, 2.5], mode="lines", line={"color": "red", "width": 2})
    figure.add_bar(x=[1, 2], y=[3, 4], name="calls", marker={"color": "blue", "line": {"width": 0}})
    figure.add_vrect(x0=1, x1=2, fillcolor="green", line={"width": 0}, layer="below")
    figure.add_vline(x=0.5, line={"color": "black", "width": 1, "dash": "dash"})
    figure.add_shape(type="line", x0=1, x1=1, y0=0, y1=1, yref="paper", line={"color": "red"})
    figure.add_annotation(x=1, y=2, text="here", showarrow=False, font={"color": "black", "size": 12})
    figure.update_layout(margin={"t": 58}, legend={"traceorder": "normal"}, barmode="stack")
    figure.update_xaxes(type="date", showgrid=False)
    figure.update_xaxes(range=[0, 3])
    figure.update_yaxes(title={"text": "ms"}, rangemode="tozero")


def test_a_figure_is_what_plotly_makes_of_the_same_calls() -> None:
    ours = blank(230, legend=True)
    theirs = go.Figure(layout=json.loads(json.dumps(ours.layout)), layout_template=None)

    draw(ours)
    draw(theirs)

    checked = go.Figure(json.loads(drawn(ours, "t", "l").figure), layout_template=None)
    assert checked.to_plotly_json() == theirs.to_plotly_json()


def test_two_figures_share_no_axis() -> None:
    one, other = blank(100), blank(100)
    one.update_xaxes(type="date")
    assert "type" not in other.layout["xaxis"]
    assert "type" not in one.layout["yaxis"]


def test_a_value_that_is_no_number_is_a_gap() -> None:
    figure = blank(100)
    figure.add_scatter(x=[1, 2, 3, 4], y=[1.0, float("nan"), float("inf"), Decimal("2.5")])
    assert json.loads(drawn(figure, "t", "l").figure)["data"][0]["y"] == [1.0, None, None, 2.5]


def test_nothing_in_a_figure_ends_its_script() -> None:
    figure = blank(100)
    figure.add_scatter(x=[1], y=[1], name="</script>&<!--")
    text = drawn(figure, "t", "l").figure
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text)["data"][0]["name"] == "</script>&<!--"
