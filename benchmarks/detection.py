"""What drift detection promises, measured: false alarms in a year, delay, real series, cause, cost.

Run `python -m benchmarks.detection` from the project's root (about 15 minutes on 2 cores), `--quick` for the same table
from fewer simulated years in under 2 minutes, `--only delay` for the parts whose name contains a word, `--json` for
machines. Everything is seeded. Each figure stands beside what other detectors do on the same streams. Parts on real
data need `../shared/data` and say so when it is absent.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from benchmarks import detection_causes, detection_cost, detection_delay, detection_null, detection_real
from benchmarks.detection_row import Row

PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "null": detection_null.rows,
    "delay": detection_delay.rows,
    "latency": detection_real.latency_rows,
    "traffic": detection_real.traffic_rows,
    "answers": detection_real.answer_rows,
    "cause": detection_causes.rows,
    "cost": detection_cost.rows,
}


def main() -> None:
    """Prints the table; exits with 1 where a figure that was asked for is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer simulated years and streams, under 2 minutes")
    parser.add_argument("--only", default="", help="parts whose name contains this: " + ", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for name, part in PARTS.items():
        if chosen.only not in name:
            continue
        began = time.perf_counter()
        for row in part(chosen.quick):
            rows.append(row)
            if not chosen.json:
                print(row.line(), flush=True)
        if not chosen.json:
            print(f"  ({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    if chosen.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    missed = [row for row in rows if row.held is False]
    if missed and not chosen.json:
        print(f"\n{len(missed)} asked figures are missed: " + "; ".join(row.what for row in missed))
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
