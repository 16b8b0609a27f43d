"""Evidence that a candidate is worse: the exact McNemar test, and e-values that stay honest under peeking.

An e-value is the wealth of a gambler who bets one unit against "not worse" at fair odds. Under that null its mean is at
most 1 whenever one chooses to stop, so an e-value of 1000 is false with probability at most 1/1000, however often one
looked.
"""

import math
import sys

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NODES = 64


def mcnemar(worse: int, better: int) -> float:
    """Two-sided exact p-value of McNemar's test: a fair coin for each item on which the two sides disagree.

    >>> round(mcnemar(worse=10, better=2), 4)
    0.0386
    """
    from scipy.special import bdtr

    if worse + better == 0:
        return 1.0
    return min(2.0 * float(bdtr(min(worse, better), worse + better, 0.5)), 1.0)


def kt_e_value(worse: int, better: int) -> float:
    """One-sided e-value for "worse" from the items on which two yes/no scores disagree.

    E = 2^(w+b) · B(w+½, b+½)/B(½,½) · 2·(1 - I_½(w+½, b+½)): the Krichevsky-Trofimov mixture over all coins that fall
    on the "worse" side more often than not. For "better" swap the arguments.

    >>> kt_e_value(worse=0, better=0)
    1.0
    >>> kt_e_value(worse=15, better=1) > 200 > 1 > kt_e_value(worse=1, better=15)
    True
    """
    from scipy.special import betaincc, betaln

    upper = float(betaincc(worse + 0.5, better + 0.5, 0.5))
    if upper == 0.0:
        return 0.0
    log_mixture = float(betaln(worse + 0.5, better + 0.5) - betaln(0.5, 0.5))
    return exponential((worse + better + 1) * math.log(2.0) + log_mixture + math.log(upper))


def stakes() -> Floats:
    """Shares of the wealth to bet, in (0, 1), each with an equal part of the starting wealth.

    They are Chebyshev nodes, so that on yes/no scores their mean wealth is the Krichevsky-Trofimov mixture.
    """
    nodes: Floats = np.cos((2.0 * np.arange(1, NODES + 1) - 1.0) * np.pi / (4.0 * NODES))
    return nodes


def unfavourable(differences: Floats, margin: float) -> Floats:
    """How far each difference speaks for "worse than the margin": at least -1, mean at most 0 where that is false."""
    return (-differences - margin) / (1.0 + margin)


def favourable(differences: Floats, margin: float) -> Floats:
    """How far each difference speaks for "above -margin": at least -1, mean at most 0 where that is false."""
    return (differences + margin) / (1.0 - margin)


def betting_e_value(evidence: Floats) -> float:
    """The e-value of a fixed mixture of bets that the mean of `evidence`, values of at least -1, is above 0.

    E = mean over stakes λ of Π (1 + λ·x_i) (Waudby-Smith and Ramdas 2024, JRSS B 86:1). It does not depend on the
    order.
    """
    values, counts = np.unique(evidence, return_counts=True)
    return mean_wealth(np.array([(counts * np.log1p(stake * values)).sum() for stake in stakes()]))


def mean_wealth(log_wealth: Floats) -> float:
    """The mean of wealths given by their logarithms, at most the largest float."""
    highest = float(log_wealth.max())
    return exponential(highest + math.log(float(np.exp(log_wealth - highest).mean())))


def exponential(power: float) -> float:
    """e^power, or the largest float where that would overflow: an infinite e-value could not be stored as JSON."""
    return math.exp(power) if power < math.log(sys.float_info.max) else sys.float_info.max
