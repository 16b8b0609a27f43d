"""Our interval beside the bias-corrected accelerated bootstrap. Run `python -m benchmarks.intervals` (some minutes).

BCa (Efron 1987) re-weights the differences seen and corrects for bias and skewness. For every law of
`benchmarks.comparison` the share of 95 % intervals that hold the true mean is printed for both, with their mean widths;
the reference is Student's t over the same items. Clusters are drawn as wholes for BCa, and CR2 stands beside it.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison import CLUSTERED, LAWS, equal_sizes, student_reach, uneven_sizes
from evaluators.comparison.bca import bca_of
from evaluators.comparison.sample import Sample, infer

Floats = NDArray[np.float64]
RESAMPLES = 1000


class Held:
    """Counts how often intervals hold the truth, and how wide they are."""

    def __init__(self, truth: float) -> None:
        self.truth, self.held, self.width, self.n = truth, 0, 0.0, 0

    def add(self, low: float, high: float) -> None:
        """One more interval."""
        self.held += low - 1e-9 <= self.truth <= high + 1e-9
        self.width, self.n = self.width + high - low, self.n + 1

    def __str__(self) -> str:
        error = math.sqrt(0.05 * 0.95 / self.n)
        return f"{self.held / self.n:6.1%} ± {error:.1%}, width {self.width / self.n:.3f}"


def one_law(
    truth: float, draw: Callable[[], tuple[Floats, NDArray[np.intp] | None]], binary: bool, runs: int
) -> tuple[Held, Held, Held]:
    """Ours, BCa and Student's t over so many samples."""
    ours, theirs, student = Held(truth), Held(truth), Held(truth)
    for _ in range(runs):
        seen, cluster = draw()
        found = infer(Sample(seen, None, cluster, binary), 0.95)
        ours.add(found.low, found.high)
        beside = bca_of(Sample(seen, None, cluster, binary), 0.95, RESAMPLES)
        theirs.add(beside.low, beside.high)
        reach = student_reach(seen)
        student.add(float(seen.mean()) - reach, float(seen.mean()) + reach)
    return ours, theirs, student


def main() -> None:
    """Prints every law and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs

    def tell(name: str, size: str, found: tuple[Held, Held, Held]) -> None:
        print(f"{name:45} {size:12} ours {found[0]} | BCa {found[1]} | t {found[2]}", flush=True)

    for law in LAWS:
        for items in (50, 200):
            random = np.random.default_rng(items)
            truth = law.mean
            found = one_law(truth, lambda: (law.draw(random, items), None), law.binary, runs)  # noqa: B023
            tell(law.name, f"{items} items", found)
    for name, draw, binary, mean in CLUSTERED:
        for sizes in (equal_sizes, uneven_sizes):
            random = np.random.default_rng(3)

            def clustered() -> tuple[Floats, NDArray[np.intp]]:
                cluster = np.repeat(np.arange(40), sizes(random, 40))  # noqa: B023
                return draw(random, cluster), cluster  # noqa: B023

            spread = "equal" if sizes is equal_sizes else "uneven"
            tell(f"{name}, {spread} clusters", "40 clusters", one_law(mean, clustered, binary, runs))


if __name__ == "__main__":
    main()
