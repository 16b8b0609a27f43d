"""Frozen quantile lines of latencies: which answers count as slow, after what their lengths explain."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Self

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array, block_means, lower_of_blocks, upper_mean
from evaluators.drift.numbers import checked

LEAST = 40  # latencies; fewer do not hold three lines
LEAST_BLOCKS = 30  # for the approximation of the clustered bounds
WORST = 0.99  # a bound above leaves no room for a rise
LISTS = ("quantiles", "lines", "line_lows", "line_highs", "bounds")
FELT = math.log(2 / 3)  # an answer in less than two thirds of the usual time is a quick one
OFFSETS = (1.0, 4.0, 16.0, 64.0, 256.0)  # tokens that take as long as the fixed part of an answer
FASTEST = 1e-3  # stands in for a latency of 0, whose logarithm does not exist


@dataclass(frozen=True, slots=True)
class FrozenQuantiles:
    """Lines that few answers exceeded while all was well.

    An answer exceeds line k when log latency - (`per_input_token` · log(input tokens + `input_offset`) +
    `per_output_token` · log(output tokens + `output_offset`)) > `lines[k]` + log(1 + `margin`); a coefficient of None
    means that this length plays no part.
    `bounds[k]` is an upper bound of the probability to exceed line k without the margin: it is what remains good when
    everything becomes slower by the margin. All bounds hold together with `confidence`. The true quantile lies between
    `line_lows[k]` and `line_highs[k]`, as far as n values allow, with the same confidence. `least_input` and
    `least_output` are log(1 + tokens) of the shortest fiftieth the fit has seen: anything shorter is expected to take
    as long as that, because what a line fitted on long answers says of a three-token answer is no reason for an alarm.
    `usual` is the median of log latency itself, where lengths play a part: while most answers come in less than two
    thirds of that, none exceeds a line. People wait for answers, not for tokens: three tokens in two seconds are
    nothing to be told of where an answer used to take six. To count fewer exceedances leaves the bounds valid.
    """

    n: int
    quantiles: tuple[float, ...]
    lines: tuple[float, ...]
    line_lows: tuple[float, ...]
    line_highs: tuple[float, ...]
    bounds: tuple[float, ...]
    per_input_token: float | None
    per_output_token: float | None
    margin: float
    confidence: float
    content_hash: str
    least_input: float = 0.0
    least_output: float = 0.0
    input_offset: float = 1.0
    output_offset: float = 1.0
    usual: float | None = None

    def exceedances(
        self,
        latencies: Sequence[float],
        input_tokens: Sequence[float] | None = None,
        output_tokens: Sequence[float] | None = None,
        *,
        waited: float | None = None,
    ) -> list[list[float]]:
        """Per quantile, 1.0 for each answer that exceeds its line and 0.0 for the others; (quantiles, answers).

        Args:
            latencies: In the unit of the reference.
            input_tokens: Per latency, where the lines need them.
            output_tokens: Likewise.
            waited: Share of answers that were not quick, lately; that of these latencies unless given.

        Raises:
            BadInput: A latency or token count is no finite number ≥ 0, or counts that the lines need are missing.
        """
        rest = self.adjusted(latencies, input_tokens, output_tokens) - math.log1p(self.margin)
        if (self.waited(latencies) if waited is None else waited) < 0.5:
            rest = np.full(len(rest), -np.inf)
        return [(rest > line).astype(float).tolist() for line in self.lines]

    def waited(self, latencies: Sequence[float]) -> float:
        """Share of answers that were not quick: at least two thirds of the usual time. 1 where lengths play no part."""
        if self.usual is None or not len(latencies):
            return 1.0
        return float(np.mean(_log_latencies(latencies) >= self.usual + FELT))

    def adjusted(
        self,
        latencies: Sequence[float],
        input_tokens: Sequence[float] | None = None,
        output_tokens: Sequence[float] | None = None,
    ) -> Array:
        """Log latencies less what the lengths explain, comparable to `lines`; raises like `exceedances`."""
        rest = _log_latencies(latencies)
        for name, counts, slope, offset, least in (
            ("input", input_tokens, self.per_input_token, self.input_offset, self.least_input),
            ("output", output_tokens, self.per_output_token, self.output_offset, self.least_output),
        ):
            if slope is not None:
                tokens = np.maximum(_tokens(counts, len(rest), name), math.expm1(least))
                rest = rest - slope * np.log(tokens + offset)
        return rest

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The lines that `to_json` wrote."""
        lists = {key: tuple(map(float, stored[key])) for key in LISTS}
        return cls(**{**stored, **lists})


def freeze_quantiles(
    latencies: Sequence[float],
    *,
    margin: float = 0.10,
    quantiles: Sequence[float] = (0.5, 0.95, 0.99),
    input_tokens: Sequence[float] | None = None,
    output_tokens: Sequence[float] | None = None,
    confidence: float,
    weights: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
) -> FrozenQuantiles:
    """Fits the lines of a good stretch of traffic, and bounds how often they were exceeded.

    With token counts, log latency is first regressed on log(tokens + offset) of each (least squares, with the offsets
    that fit best), since an answer takes a fixed time plus one for each token. The lines are quantiles of leave-one-out
    residuals, so that fitting does not flatter them. A line is an order statistic x_(j) of n values,
    whose exceedance probability is distributed as Beta(n - j + 1, j) whatever the distribution: that bounds it exactly
    (up to the fit) even for 40 values. The bounds share 1 - confidence evenly.

    With weights no order statistic is exact. Then every other value sets the lines, at quantiles of the weighted
    distribution, and the rest bounds how often they are exceeded, by the betting bound of `bounds.upper_mean`.

    Args:
        latencies: Milliseconds (or any unit, or cost), ≥ 0, of records that were answered.
        margin: Relative slow-down that does not matter, 0.10 is 10 %.
        quantiles: In (0, 1).
        input_tokens: Per latency, where known for all; else leave out.
        output_tokens: Likewise. A count that never varies is left out of the fit.
        confidence: That all bounds hold, e.g. 0.995.
        weights: Per latency r_min / r in (0, 1], for records sampled with unequal inclusion probability r.
        blocks: Per latency the block it belongs to; from 30 blocks on the bounds then also cover what the answers of
            one block share (a loaded minute), as in `freeze`.

    Raises:
        BadInput: Fewer than 40 latencies (80 with weights), or something out of range.

    >>> lines = freeze_quantiles([float(ms) for ms in range(100, 300)], confidence=0.995)
    >>> [round(math.exp(line)) for line in lines.lines], [round(bound, 2) for bound in lines.bounds]
    ([200, 290, 298], [0.6, 0.11, 0.04])
    >>> lines.exceedances([219.0, 221.0, 340.0])
    [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise BadInput(f"margin is {margin}; it must be a number ≥ 0, 0.10 for 10 %.")
    if not 0.5 <= confidence < 1:
        raise BadInput(f"confidence is {confidence}; it must lie in [0.5, 1), e.g. 0.995.")
    if not quantiles or not all(0 < q < 1 for q in quantiles):
        raise BadInput(f"quantiles are {list(quantiles)}; each must lie strictly between 0 and 1, and one is needed.")
    logs = _log_latencies(latencies)
    n = len(logs)
    if n < LEAST:
        raise BadInput(f"The reference has {n} latencies; at least {LEAST} are needed, and a few hundred serve better.")
    columns = {
        name: _tokens(counts, n, name)
        for name, counts in (("input", input_tokens), ("output", output_tokens))
        if counts is not None
    }
    if blocks is not None and len(blocks) != n:
        raise BadInput(f"There are {len(blocks)} block numbers for {n} latencies; each needs one.")
    alpha = (1 - confidence) / len(quantiles)
    w = None if weights is None else np.array(checked([0.0] * n, weights)[1])
    found = _Lines.alike(logs, columns, quantiles, alpha) if w is None else _Lines.unlike(
        logs, columns, w, quantiles, alpha
    )  # fmt: skip
    bounds, slopes, offsets = found.bounds, found.slopes, found.offsets
    own = [] if blocks is None else [blocks[k] for k in found.bounding]
    if len(set(own)) >= LEAST_BLOCKS:
        of_rows = np.ones(len(own)) if w is None else w[found.bounding]
        shares = [block_means(np.asarray(found.rest > line, dtype=float), of_rows, own) for line in found.lines]
        bounds = [
            max(bound, min(1 - lower_of_blocks(1 - share, alpha), WORST))
            for bound, share in zip(bounds, shares, strict=True)
        ]
    digest = hashlib.sha256(f"quantiles|{margin!r}|{confidence!r}|{list(quantiles)}|{sorted(columns)}".encode())
    for column in (logs, *columns.values(), *([] if w is None else [w])):
        digest.update(column.astype("<f8").tobytes())
    return FrozenQuantiles(
        n=n,
        quantiles=tuple(float(q) for q in quantiles),
        lines=tuple(found.lines),
        line_lows=tuple(found.lows),
        line_highs=tuple(found.highs),
        bounds=tuple(bounds),
        per_input_token=slopes.get("input"),
        per_output_token=slopes.get("output"),
        margin=float(margin),
        confidence=float(confidence),
        content_hash=digest.hexdigest(),
        usual=found.usual if slopes else None,
        least_input=_shortest(columns.get("input")),
        least_output=_shortest(columns.get("output")),
        input_offset=offsets.get("input", 1.0),
        output_offset=offsets.get("output", 1.0),
    )


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines, where the true quantiles lie, and bounds of how often they are exceeded; `rest` of the rows `bounding`."""

    slopes: dict[str, float]
    offsets: dict[str, float]
    lines: list[float]
    lows: list[float]
    highs: list[float]
    bounds: list[float]
    bounding: np.ndarray[Any, np.dtype[np.intp]]
    rest: Array
    usual: float

    @classmethod
    def alike(cls, logs: Array, columns: dict[str, Array], quantiles: Sequence[float], alpha: float) -> Self:
        """Of rows that all count alike: order statistics, exact."""
        from scipy import stats

        n = len(logs)
        slopes, offsets, residuals = _fit(logs, _telling(columns))
        ordered = np.sort(residuals)
        places = [min(n, math.ceil(q * (n + 1))) for q in quantiles]
        lows, highs = zip(*(_around(n, q, alpha) for q in quantiles), strict=True)
        return cls(
            slopes, offsets, [float(ordered[j - 1]) for j in places], [float(ordered[i]) for i in lows],
            [float(ordered[i]) for i in highs], [float(stats.beta.ppf(1 - alpha, n - j + 1, j)) for j in places],
            np.arange(n), residuals, float(np.median(logs)),
        )  # fmt: skip

    @classmethod
    def unlike(cls, logs: Array, columns: dict[str, Array], w: Array, quantiles: Sequence[float], alpha: float) -> Self:
        """Of rows that count by their weights: one half sets the lines, the other bounds them."""
        n = len(logs)
        if n < 2 * LEAST:
            raise BadInput(
                f"The reference has {n} latencies that were sampled unequally; at least {2 * LEAST} are needed, half "
                "for the lines and half for their bounds."
            )
        making, bounding = np.arange(0, n, 2), np.arange(1, n, 2)
        telling = _telling(columns)
        slopes, offsets, residuals = _fit(logs[making], {name: c[making] for name, c in telling.items()})
        rest = logs[bounding].copy()
        for name, slope in slopes.items():
            tokens = np.maximum(columns[name][bounding], math.expm1(_shortest(columns[name])))
            rest -= slope * np.log(tokens + offsets[name])
        own = w[making]
        size = int(np.sum(own) ** 2 / np.sum(own**2))  # as many rows that count alike tell as much
        lines = [_quantile(residuals, own, q) for q in quantiles]
        edges = [[_quantile(residuals, own, (i + 0.5) / size) for i in _around(size, q, alpha)] for q in quantiles]
        return cls(
            slopes, offsets, lines, [low for low, _ in edges], [high for _, high in edges],
            [min(upper_mean(np.asarray(rest > line, dtype=float), alpha, w[bounding]), WORST) for line in lines],
            bounding, rest, _quantile(logs, w, 0.5),
        )  # fmt: skip


def _around(n: int, q: float, alpha: float) -> tuple[int, int]:
    """Places in order between which the quantile of n values lies."""
    from scipy import stats

    low, high = stats.binom.ppf([alpha / 2, 1 - alpha / 2], n, q)
    return max(int(low) - 1, 0), min(int(high) + 1, n - 1)


def _quantile(values: Array, w: Array, q: float) -> float:
    """The smallest value below or at which a share q of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(w[order]) / np.sum(w)
    return float(values[order[min(int(np.searchsorted(reached, q - 1e-12)), len(values) - 1)]])


def _telling(columns: dict[str, Array]) -> dict[str, Array]:
    """The columns that vary; of two that say the same, one."""
    varying = {name: c for name, c in columns.items() if float(np.ptp(c)) > 0}
    if len(varying) == 2 and abs(float(np.corrcoef(varying["input"], varying["output"])[0, 1])) > 1 - 1e-9:
        varying.pop("input")
    return varying


def _fit(logs: Array, columns: dict[str, Array]) -> tuple[dict[str, float], dict[str, float], Array]:
    """Slopes and offsets of the best fit on the logarithms of the columns, and its leave-one-out residuals."""
    fits = []
    for offsets in product(OFFSETS, repeat=len(columns)):
        shifted = {name: np.log(c + offset) for (name, c), offset in zip(columns.items(), offsets, strict=True)}
        fits.append((*_regress(logs, shifted), dict(zip(columns, offsets, strict=True))))
    slopes, residuals, chosen = min(fits, key=lambda fit: float(np.var(fit[1])))
    return slopes, chosen, residuals


def _regress(logs: Array, columns: dict[str, Array]) -> tuple[dict[str, float], Array]:
    """Slopes of log latency on each column, and what they leave of it (the constant stays in), leave-one-out."""
    if not columns:
        return {}, logs
    design = np.column_stack([np.ones(len(logs)), *columns.values()])
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ logs)
    leverage = np.minimum(np.sum(q * q, axis=1), 0.5)
    residuals = (logs - design @ coefficients) / (1 - leverage)
    return dict(zip(columns, map(float, coefficients[1:]), strict=True)), residuals + float(coefficients[0])


def _log_latencies(latencies: Sequence[float]) -> Array:
    xs, _ = checked(latencies, low=0.0, what="latency")
    logs: Array = np.log(np.maximum(np.array(xs, dtype=float), FASTEST))
    return logs


def _shortest(tokens: Array | None) -> float:
    """log(1 + tokens) below which only a fiftieth of the reference lies; 0 where the length plays no part."""
    return 0.0 if tokens is None else math.log1p(float(np.quantile(tokens, 0.02, method="inverted_cdf")))


def _tokens(counts: Sequence[float] | None, n: int, name: str) -> Array:
    if counts is None or len(counts) != n:
        held = "none" if counts is None else str(len(counts))
        raise BadInput(f"There are {held} {name} token counts for {n} latencies; these lines need one each.")
    xs, _ = checked(counts, low=0.0, what=f"{name} token count")
    return np.array(xs, dtype=float)
