"""What a replay may spend, and what it has spent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftline.errors import BadInput
from driftline.moment import SECOND
from driftline.store.tables import Replay

NANO = 1_000_000_000
UNCOUNTED = 32  # calls without a single token, after which nobody counts them


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a replay may spend; None where there is no limit.

    `calls` holds exactly. The others are looked at before every batch, so each worker may finish the batch in hand.
    `seconds` run from the first batch on; `joules` are those of the workers, estimated where the processor tells none.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    joules: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Budget":
        """The budget of such names and amounts.

        Raises:
            BadInput: An unknown name, or an amount that is not above 0.
        """
        known = cls.__dataclass_fields__
        for name, amount in given.items():
            if name not in known:
                raise BadInput(f"There is no budget in {name}. Known: {', '.join(known)}.")
            number = isinstance(amount, int | float) and not isinstance(amount, bool) and math.isfinite(amount)
            if not number or amount <= 0:
                raise BadInput(f"A budget of {amount!r} {name} cannot be spent; give a number above 0.")
            if name in ("calls", "tokens") and amount != int(amount):
                raise BadInput(
                    f"A budget of {amount!r} {name} cannot be spent; {name} are counted, so give a whole number."
                )

        def whole(name: str) -> int | None:
            return int(given[name]) if name in given else None

        def real(name: str) -> float | None:
            return float(given[name]) if name in given else None

        return cls(whole("calls"), whole("tokens"), real("usd"), real("seconds"), real("joules"))

    def spent_by(self, replay: Replay, now_us: int) -> str | None:
        """Which limit the replay has reached, as a sentence; None while it may go on."""
        used = {
            "calls": replay.calls,
            "tokens": replay.tokens,
            "usd": replay.cost_nano / NANO,
            "seconds": (now_us - replay.started_at) / SECOND if replay.started_at else 0.0,
            "joules": replay.joules,
        }
        if self.tokens is not None and replay.tokens == 0 and replay.calls >= UNCOUNTED:
            return f"nothing counts its tokens, so its budget of {self.tokens} tokens cannot be kept"
        for name, amount in used.items():
            limit = getattr(self, name)
            if limit is not None and amount >= limit:
                return f"its budget of {limit:.10g} {name} is spent"
        return None


def spending(given: Sequence[str]) -> dict[str, float]:
    """Amounts written as NAME=NUMBER.

    Raises:
        BadInput: One is written otherwise, or is no budget.

    >>> spending(["calls=500", "usd=2"])
    {'calls': 500.0, 'usd': 2.0}
    """
    spent: dict[str, float] = {}
    for text in given:
        name, _, amount = text.partition("=")
        try:
            spent[name] = float(amount)
        except ValueError:
            raise BadInput(f"A budget is written NAME=NUMBER, such as calls=500; got {text!r}.") from None
    Budget.of(spent)
    return spent
