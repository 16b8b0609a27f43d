"""Which of many monitors moved? A list by e-BH over the e-values of their newest readings."""

import math
from collections.abc import Mapping

FDR = 0.05


def moved(log_e: Mapping[int, float], fdr: float = FDR) -> list[int]:
    """The keys whose e-values make the list; on average at most `fdr` of it is wrong, whatever their dependence.

    The k largest of K e-values are listed for the largest k with e_(k) ≥ K / (k fdr). An e-value here is M_t / t of a
    detector at a moment fixed beforehand (now), not at its highest.

    Source: Wang, Ramdas (2022), False discovery rate control with e-values, JRSS B 84.

    >>> moved({1: math.log(500.0), 2: 0.0, 3: math.log(45.0), 4: -1.6})
    [1, 3]
    """
    ordered = sorted(log_e, key=lambda key: (-log_e[key], key))
    listed = 0
    for k, key in enumerate(ordered, 1):
        if log_e[key] >= math.log(len(ordered) / (k * fdr)):
            listed = k
    return ordered[:listed]
