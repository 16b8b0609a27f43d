"""Drift over a stream: detectors that alarm, and what explains an alarm. Numbers in, values out, no I/O.

>>> watch = detector("esr", {"m0": 0.85, "direction": "fall", "log_threshold": 15.0})
>>> watch.update([1.0, 1.0, 0.0, 1.0]).alarmed
False
>>> again = restore("esr", watch.state())
>>> again.update([0.0, 0.0]) == watch.update([0.0, 0.0])
True
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from driftline.errors import BadInput, NotFound
from evaluators.drift.reading import Detector, Reading

__all__ = ["DETECTORS", "YARDSTICKS", "Detector", "Reading", "detector", "restore", "yardstick"]

DETECTORS = {
    "esr": "evaluators.drift.esr:ESR",
    "conformal": "evaluators.drift.conformal:Conformal",
    "exceedance": "evaluators.drift.exceedance:Exceedance",
    "paired-texts": "evaluators.drift.mmd:PairedTexts",
    "shares": "evaluators.drift.shares:Shares",
    "strata": "evaluators.drift.strata:Strata",
}
# Behind the same protocol, for comparison only: none of them keeps a false-alarm promise, so no monitor may use them.
YARDSTICKS = {
    "adwin": "evaluators.drift.river_detectors:Adwin",
    "ks-window": "evaluators.drift.ks_window:KSWindow",
    "page-hinkley": "evaluators.drift.river_detectors:PageHinkley",
}


def detector(name: str, params: Mapping[str, Any]) -> Detector:
    """A new detector that has seen nothing.

    Raises:
        NotFound: No detector has this name.
        BadInput: A parameter is missing, unknown or out of range.
    """
    return _made("detector", name, _resolve(name), params)


def yardstick(name: str, params: Mapping[str, Any]) -> Detector:
    """What others would use on the same stream: a benchmark sets it beside a detector, a monitor cannot.

    Raises:
        NotFound: No yardstick has this name.
        BadInput: A parameter is missing, unknown or out of range.
        MissingPackage: It needs river, which is not installed.

    >>> yardstick("ks-window", {"reference": [1.0, 2.0, 3.0], "window": 5}).update([9.0] * 5).alarmed
    True
    """
    if name not in YARDSTICKS:
        raise NotFound("yardstick", name, YARDSTICKS)
    return _made("yardstick", name, _attribute(YARDSTICKS[name]), params)


def restore(name: str, state: Mapping[str, Any]) -> Detector:
    """The detector that wrote `state`, ready for its next block; a state of an older version is upgraded.

    Raises:
        NotFound: No detector has this name.
        BadInput: The state was written by a newer version, by another detector, or is damaged.
    """
    kind = _resolve(name)
    if state.get("detector", name) != name:
        raise BadInput(
            f"This state was written by the detector {state['detector']}; restore it as that, not as {name}."
        )
    version = state.get("version")
    if not isinstance(version, int) or version < 1:
        raise BadInput(f"The state of the detector {name} carries no version; begin anew from its frozen reference.")
    if version > kind.VERSION:
        raise BadInput(
            f"The state of the detector {name} is of version {version}, this Driftline knows versions up to "
            f"{kind.VERSION}. Upgrade this process, or begin anew from the frozen reference."
        )
    try:
        made: Detector = kind.from_state(state)
    except (KeyError, TypeError, ValueError) as wrong:
        raise BadInput(
            f"The state of the detector {name} is damaged ({wrong!r}); begin anew from its reference."
        ) from None
    return made


def _resolve(name: str) -> Any:
    if name not in DETECTORS:
        raise NotFound("detector", name, DETECTORS)
    return _attribute(DETECTORS[name])


def _attribute(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _made(what: str, name: str, kind: Any, params: Mapping[str, Any]) -> Detector:
    try:
        made: Detector = kind(**params)
    except TypeError as wrong:
        reason = str(wrong).replace(f"{kind.__name__}.__init__()", "it")
        raise BadInput(f"The {what} {name} cannot be made from {sorted(params)}: {reason}.") from None
    return made
