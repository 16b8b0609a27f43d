"""The report people read about a window: Evidently's, with our calibrated tests inside and its own defaults beside."""

import html as markup
import math
import os
import random
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.twosample import Moved, numbers_moved, shares_moved

FEW = 20  # distinct strings up to which a column is categories rather than text
OURS = "driftline"
_ALONE = threading.Lock()


@dataclass(frozen=True, slots=True)
class Report:
    """One window against its reference.

    `html` is a whole page that loads nothing from elsewhere. `data` holds, as JSON values, what our tests say per
    column, the rows used, columns left out with the reason, and Evidently's metrics. `defaults` holds per column what
    Evidently's own default check would have said (`test`, `score`, `threshold`, `drift`): to compare, never to alarm.
    """

    html: str
    data: dict[str, Any]
    defaults: dict[str, dict[str, Any]]


def window_report(
    reference: Any,
    current: Any,
    *,
    max_rows: int = 10_000,
    title: str = "Window report",
    alpha: float = 0.01,
    margin: float = 0.02,
) -> Report:
    """Compares the columns of two tables and writes a page about it.

    Numbers are compared by Kolmogorov-Smirnov distance, categories by total variation, both beyond `margin` and with
    `alpha` shared by all columns. Of text columns (more than 20 distinct strings) descriptors that need no model are
    compared: characters, words, sentences, share of non-letters, valid JSON, links. The share of missing values
    (None, NaN, infinite) is compared too. Longer tables are sampled, the same rows every time. The global random
    generators of numpy and Python are left as they were; a few seconds at 10 000 rows.

    Args:
        reference: pandas.DataFrame, or a mapping of column name to a list of values.
        current: Likewise.
        max_rows: Per side.
        title: Shown above the report.
        alpha: Probability that any column is called moved when none has.
        margin: Change of a share that does not matter.

    Raises:
        BadInput: A side has no rows, columns differ in length, or no column can be compared.
    """
    os.environ["DO_NOT_TRACK"] = "1"  # before the import: Evidently sends usage data otherwise
    with _undisturbed():
        before, after = _table(reference, "reference"), _table(current, "current")
        sizes = {"reference": len(before), "current": len(after)}
        before, after = _sample(before, max_rows), _sample(after, max_rows)
        before, after, kinds, skipped = _columns(before, after)
        if not kinds:
            left_out = "; ".join(f"{name}: {why}" for name, why in skipped.items()) or "there are none"
            raise BadInput(f"No column can be compared ({left_out}). Give both sides a column with values.")
        threshold = alpha / len(kinds)
        said = {name: _our_test(before[name], after[name], kinds[name], threshold, margin) for name in kinds}
        page, metrics, defaults = _evidently(before, after, kinds, threshold, margin)
        columns = {name: _row(before[name], after[name], kinds[name], said[name], alpha, margin) for name in kinds}
    data = {
        "title": title,
        "rows": sizes,
        "rows_used": {"reference": len(before), "current": len(after)},
        "alpha": alpha,
        "alpha_per_column": threshold,
        "columns": columns,
        "skipped": skipped,
        "evidently": metrics,
    }
    return Report(_with_verdicts(page, title, columns, defaults, skipped), data, defaults)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Puts back what Evidently changes for the whole process: seeds, warnings and how they are printed.

    One report at a time, else two threads would put back each other's.
    """
    with _ALONE:
        numpy_state, python_state, printed = np.random.get_state(), random.getstate(), warnings.formatwarning
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            warnings.formatwarning = printed


def _table(side: Any, name: str) -> Any:
    import pandas as pd

    try:
        table = side.reset_index(drop=True) if isinstance(side, pd.DataFrame) else pd.DataFrame(dict(side))
    except ValueError as wrong:
        raise BadInput(f"The {name} is no table: {wrong}.") from None
    if table.empty:
        raise BadInput(f"The {name} has no rows; a report needs at least one on each side.")
    table.columns = [str(column) for column in table.columns]
    return table


def _sample(table: Any, most: int) -> Any:
    if len(table) <= most:
        return table
    chosen = np.sort(np.random.default_rng(0).choice(len(table), size=most, replace=False))
    return table.iloc[chosen].reset_index(drop=True)


def _columns(before: Any, after: Any) -> tuple[Any, Any, dict[str, str], dict[str, str]]:
    """Both tables with texts replaced by their descriptors, the kind of each column, and why others are left out."""
    import pandas as pd

    kinds: dict[str, str] = {}
    skipped: dict[str, str] = {}
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name in dict.fromkeys([*before.columns, *after.columns]):
        lacking = [side for side, t in (("reference", before), ("current", after)) if name not in t.columns]
        if lacking:
            skipped[name] = f"the {lacking[0]} has no such column"
            continue
        pair = [_cleaned(t[name]) for t in (before, after)]
        empty = [side for side, c in zip(("reference", "current"), pair, strict=True) if c.notna().sum() == 0]
        if empty:
            skipped[name] = f"all values are missing in the {' and the '.join(empty)}"
            continue
        kind = _kind(pd.concat(pair))
        found = [_descriptors(name, c) if kind == "text" else {name: c} for c in pair]
        for side, extra in zip(sides, found, strict=True):
            side.update(extra)
        kinds |= dict.fromkeys(found[0], "number" if kind == "text" else kind)
    return pd.DataFrame(sides[0]), pd.DataFrame(sides[1]), kinds, skipped


def _cleaned(column: Any) -> Any:
    """Numbers as floats with infinities missing; all else as strings."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype(float).replace([math.inf, -math.inf], math.nan)
    present = column.dropna()
    if len(present) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present):
        return pd.to_numeric(column).astype(float).replace([math.inf, -math.inf], math.nan)
    return column.map(str, na_action="ignore").astype(object)


def _kind(column: Any) -> str:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return "number"
    return "category" if column.nunique() <= FEW else "text"


def _descriptors(name: str, column: Any) -> dict[str, Any]:
    """What Evidently can say about texts without a model or a download; missing texts stay missing."""
    from evidently import DataDefinition, Dataset
    from evidently import descriptors as d

    made = {
        f"{name}: characters": d.TextLength,
        f"{name}: words": d.WordCount,
        f"{name}: sentences": d.SentenceCount,
        f"{name}: non-letters %": d.NonLetterCharacterPercentage,
        f"{name}: valid JSON": d.IsValidJSON,
        f"{name}: has a link": d.ContainsLink,
    }
    # a blank instead of "": the share of non-letters divides by the length
    texts = column.fillna("").replace("", " ").to_frame(name)
    described = Dataset.from_pandas(
        texts,
        data_definition=DataDefinition(text_columns=[name]),
        descriptors=[kind(name, alias=alias) for alias, kind in made.items()],
    ).as_dataframe()
    return {alias: described[alias].astype(float).where(column.notna().to_numpy()) for alias in made}


def _our_test(before: Any, after: Any, kind: str, alpha: float, margin: float) -> Moved:
    one, two = before.dropna().tolist(), after.dropna().tolist()
    return (numbers_moved if kind == "number" else shares_moved)(one, two, margin=margin, alpha=alpha)


def _evidently(
    before: Any, after: Any, kinds: Mapping[str, str], threshold: float, margin: float
) -> tuple[str, dict[str, Any], dict[str, dict[str, Any]]]:
    """Evidently's page and metrics with our test in place of its own, and what its own would have said."""
    import evidently
    from evidently import DataDefinition, Dataset
    from evidently.legacy.calculations.stattests import StatTest, register_stattest, registry
    from evidently.legacy.core import ColumnType
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    def ours(one: Any, two: Any, feature: Any, alpha: float) -> tuple[float, bool]:
        kind = "number" if feature == ColumnType.Numerical else "category"
        found = _our_test(one, two, kind, alpha, margin)
        return found.p_value, found.moved

    allowed = [ColumnType.Numerical, ColumnType.Categorical]
    register_stattest(StatTest(OURS, f"Driftline, p-value beyond a margin of {margin:g}", allowed, threshold), ours)
    names = list(kinds)
    definition = DataDefinition(
        numerical_columns=[n for n in names if kinds[n] == "number"],
        categorical_columns=[n for n in names if kinds[n] == "category"],
    )
    sides = [Dataset.from_pandas(side[names], data_definition=definition) for side in (after, before)]
    preset = DataDriftPreset(columns=names, method=OURS, threshold=threshold, drift_share=1 / len(names))
    shown = evidently.Report([preset, DataSummaryPreset(columns=names)], include_tests=True).run(*sides)
    plain = evidently.Report([DataDriftPreset(columns=names)], include_tests=True).run(*sides)
    registry._registered_stat_test_funcs.pop(ours, None)  # it would keep one more function for every report
    metrics = {"version": evidently.__version__, "metrics": _plain(shown.dict()["metrics"])}
    return shown.get_html_str(as_iframe=False), metrics, _defaults(plain.dict())


def _defaults(said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    failed = {t["metric_config"]["metric_id"]: str(t["status"]).endswith("FAIL") for t in said["tests"]}
    found = {}
    for metric in said["metrics"]:
        config = metric["config"]
        if config["type"].endswith(":ValueDrift"):
            found[config["column"]] = {
                "test": config["method"],
                "score": _plain(metric["value"]),
                "threshold": config["threshold"],
                "drift": failed[metric["id"]],
            }
    return found


def _row(before: Any, after: Any, kind: str, said: Moved, alpha: float, margin: float) -> dict[str, Any]:
    gone = [["missing" if lost else "there" for lost in side.isna()] for side in (before, after)]
    row: dict[str, Any] = {
        "kind": kind,
        "moved": said.moved,
        "effect": said.effect,
        "margin": said.margin,
        "p_value": said.p_value,
        "missing": {"reference": float(before.isna().mean()), "current": float(after.isna().mean())},
        "missing_moved": shares_moved(gone[0], gone[1], margin=margin, alpha=alpha).moved,
    }
    for side, column in (("reference", before), ("current", after)):
        if kind == "number":
            at = column.dropna().quantile([0.05, 0.5, 0.95])
            row[side] = {"mean": float(column.mean()), "p5": at[0.05], "p50": at[0.5], "p95": at[0.95]}
        else:
            row[side] = {str(k): float(v) for k, v in column.value_counts(normalize=True).head(FEW).items()}
    return dict(_plain(row))


def _plain(value: Any) -> Any:
    """The same as JSON values; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _with_verdicts(
    page: str,
    title: str,
    columns: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, str],
) -> str:
    """The page with a table on top: what we say about each column beside what Evidently's default would."""
    rows = "".join(
        "<tr>"
        f"<td>{markup.escape(name)}</td><td>{'moved' if row['moved'] else 'no evidence'}</td>"
        f"<td>{row['effect']:.3f}</td><td>{row['p_value']:.2g}</td>"
        f"<td>{row['missing']['reference']:.1%} → {row['missing']['current']:.1%}"
        f"{' (moved)' if row['missing_moved'] else ''}</td>"
        f"<td>{'drift' if defaults[name]['drift'] else 'no drift'} ({markup.escape(str(defaults[name]['test']))})</td>"
        "</tr>"
        for name, row in columns.items()
    )
    left_out = "".join(f"<li>{markup.escape(name)}: {markup.escape(why)}</li>" for name, why in skipped.items())
    top = (
        "<section style='font:14px system-ui,sans-serif;margin:1.5rem;overflow-x:auto'>"
        f"<h1 style='font-size:1.3rem'>{markup.escape(title)}</h1>"
        "<table style='border-collapse:collapse' cellpadding='6'><thead><tr style='text-align:left'>"
        "<th>Column</th><th>Driftline</th><th>Largest change of a share</th><th>p-value</th><th>Missing</th>"
        "<th>Evidently's default (never alarms)</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{f'<p>Left out:</p><ul>{left_out}</ul>' if left_out else ''}</section>"
    )
    head, body, rest = page.partition("<body>")
    return head + body + top + rest
