"""Which variants are worth having: quality against latency, those that nobody beats marked."""

from collections.abc import Sequence

from dashboard.figures.canvas import ACCENT, INK, SOFT, Drawn, blank, drawn, plain
from dashboard.formats import ms, size
from driftline.acts.frontier import Standing


def frontier_figure(standings: Sequence[Standing], height: int = 300) -> Drawn | None:
    """One point per variant that has been replayed; None where fewer than two can be placed."""
    placed = [one for one in standings if {"quality", "latency_ms"} <= one.figures.keys()]
    if len(placed) < 2:
        return None
    figure = blank(height)
    for is_best, colour, symbol in ((True, ACCENT, "diamond"), (False, SOFT, "circle-open")):
        some = [one for one in placed if one.is_best is is_best]
        figure.add_scatter(
            x=[one.figures["latency_ms"] for one in some], y=[one.figures["quality"] for one in some],
            mode="markers+text" if is_best else "markers", marker={"symbol": symbol, "size": 12, "color": colour},
            text=[plain(one.variant) for one in some], textposition="top center", textfont={"color": INK},
            customdata=[_told(one) for one in some], hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 40, "t": 24, "b": 8})
    figure.update_xaxes(title={"text": "median latency, ms"}, type="log")
    figure.update_yaxes(title={"text": plain(placed[0].evaluator)})
    best = ", ".join(one.variant for one in placed if one.is_best) or "none"
    label = (
        f"Quality against latency of {len(placed)} variants. On the frontier of quality, latency, size, energy: {best}."
    )
    return drawn(figure, "Worth having: quality against latency (filled: nobody beats it in everything)", label)


def _told(one: Standing) -> str:
    figures = one.figures
    told = [plain(one.variant), f"{plain(one.evaluator)} {figures['quality']:.3f}", ms(figures["latency_ms"])]
    if "bytes_stored" in figures:
        told.append(size(figures["bytes_stored"]))
    if "joules_per_answer" in figures:
        told.append(f"{figures['joules_per_answer']:.2f} J an answer")
    return "<br>".join(told)
