"""The variants of SmolLM2-135M-Instruct that the demo tells of: a baseline, a harmless one, and one that is broken."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BF16_UNITS = ("avx512_bf16", "amx_bf16", " bf16 ")
Step = str | tuple[str, dict[str, Any]]  # a method, with its config where that is not the default


@dataclass(frozen=True, slots=True)
class Cast:
    """Names of the variants in their parts, and the methods after `smollm2` that make each."""

    base: str
    harmless: str
    broken: str
    broken_too: str  # where the broken one turns out not to be
    methods: dict[str, tuple[Step, ...]]

    def chain(self, name: str) -> list[dict[str, Any]]:
        """The recipes of a variant, the base model first."""
        steps: tuple[Step, ...] = ("smollm2", *self.methods[name])
        pairs = ((step, {}) if isinstance(step, str) else step for step in steps)
        return [{"method": method, "config": config} for method, config in pairs]


HALF = Cast(
    "smollm2-bf16", "smollm2-int8-weight-only", "smollm2-int8-dynamic", "smollm2-int4-per-row",
    {
        "smollm2-bf16": ("bf16",),
        "smollm2-int8-weight-only": ("bf16", "int8_weight_only"),
        "smollm2-int8-dynamic": ("bf16", "int8_dynamic"),
        "smollm2-int4-per-row": ("bf16", "int4_per_row"),
    },
)  # fmt: skip
FULL = Cast(
    "smollm2-fp32", "smollm2-int8-weight-only", "smollm2-int8-dynamic", "smollm2-int4-per-row",
    {
        "smollm2-fp32": (),
        "smollm2-int8-weight-only": (("int8_weight_only", {"compute": "float32"}),),
        "smollm2-int8-dynamic": ("int8_dynamic",),
        "smollm2-int4-per-row": ("int4_per_row",),
    },
)  # fmt: skip


def cast(cpu: str | None = None) -> Cast:
    """The variants in bf16, as the model was published, where the processor counts in it; else in fp32.

    Without such units a prompt takes five times as long in bf16 as in fp32, and longer where there is no AVX-512.

    `cpu` is what Linux tells of it in /proc/cpuinfo; elsewhere nothing is known and fp32 is taken.
    """
    if cpu is None:
        file = Path("/proc/cpuinfo")
        cpu = file.read_text() if sys.platform == "linux" and file.is_file() else ""
    return HALF if any(unit in cpu for unit in BF16_UNITS) else FULL
