"""Is a candidate as good as its baseline? Paired comparisons of two runs of the same items.

`compare` judges two finished runs, `bca` gives a second interval, `slices` judges their parts, `EarlyStop` and
`PairedWorse` a run that is still going on, and `items_needed` says beforehand how many items it takes.
"""

from evaluators.comparison.anytime import anytime_interval
from evaluators.comparison.bca import Bootstrap, bca
from evaluators.comparison.canary import SideBySide
from evaluators.comparison.compare import compare
from evaluators.comparison.evidence import kt_e_value, mcnemar
from evaluators.comparison.gate import ALPHA, alpha_of_use, gate
from evaluators.comparison.judged import (
    JudgeDrift,
    SelfNoise,
    judge_drift,
    self_noise,
    with_self_noise,
    without_drift,
)
from evaluators.comparison.pairs import once_per_item
from evaluators.comparison.power import ItemsNeeded, items_needed
from evaluators.comparison.result import Comparison, Flip
from evaluators.comparison.sequential import EarlyStop, Evidence, PairedWorse
from evaluators.comparison.slices import Slice, e_bh, slices
from evaluators.comparison.verdicts import Verdict, verdict

__all__ = [
    "ALPHA",
    "Bootstrap",
    "Comparison",
    "EarlyStop",
    "Evidence",
    "Flip",
    "ItemsNeeded",
    "JudgeDrift",
    "PairedWorse",
    "SelfNoise",
    "SideBySide",
    "Slice",
    "Verdict",
    "alpha_of_use",
    "anytime_interval",
    "bca",
    "compare",
    "e_bh",
    "gate",
    "items_needed",
    "judge_drift",
    "kt_e_value",
    "mcnemar",
    "once_per_item",
    "self_noise",
    "slices",
    "verdict",
    "with_self_noise",
    "without_drift",
]
