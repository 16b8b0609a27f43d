"""How much the demo does: the whole story, or the quick one."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    """Amounts of the demo. Times in seconds."""

    questions: int  # so many of the shortest there are, for the golden set and the traffic
    golden_items: int
    max_tokens: int
    reference_items: int
    quiet_items: int  # watched before the bad deployment, in which nothing may be found
    block_s: float
    slow_down: float
    chapters_s: tuple[float, ...]  # what each chapter takes on two quiet cores

    @property
    def monitor_params(self) -> dict[str, Any]:
        """What the demo's monitors are told: short blocks and a short reference, so that minutes are enough."""
        return {
            "block_s": self.block_s,
            "reference_items": self.reference_items,
            "reference_s": 0.0,
            "min_block_items": 1,
        }


FULL = Size(
    questions=1200,
    golden_items=200,
    max_tokens=16,
    reference_items=120,
    quiet_items=40,
    block_s=1.0,
    slow_down=1.8,
    chapters_s=(2, 180, 70, 60, 8, 90),
)
QUICK = Size(
    questions=500,
    golden_items=60,
    max_tokens=8,
    reference_items=72,
    quiet_items=12,
    block_s=0.5,
    slow_down=1.8,
    chapters_s=(2, 85, 35, 45, 8, 60),
)
RECORDED = Size(
    questions=0,  # it has its own
    golden_items=300,
    max_tokens=1000,
    reference_items=200,
    quiet_items=80,
    block_s=0.25,
    slow_down=1.0,
    chapters_s=(1, 15, 30, 50, 5, 20),
)
