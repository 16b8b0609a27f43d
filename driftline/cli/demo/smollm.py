"""The variants of SmolLM2-135M-Instruct that the demo tells of: a baseline, a harmless one, and one that is broken."""

import sys
from dataclasses import dataclass
from pathlib import Path

BF16_UNITS = ("avx512_bf16", "amx_bf16", " bf16 ")


@dataclass(frozen=True, slots=True)
class Cast:
    """Names of the variants in their parts, and the methods after `smollm2` that make each."""

    base: str
    harmless: str
    broken: str
    broken_too: str  # where the broken one turns out not to be
    methods: dict[str, tuple[str, ...]]


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
    "smollm2-fp32", "smollm2-bf16", "smollm2-int8-dynamic", "smollm2-int4-per-row",
    {
        "smollm2-fp32": (),
        "smollm2-bf16": ("bf16",),
        "smollm2-int8-dynamic": ("int8_dynamic",),
        "smollm2-int4-per-row": ("int4_per_row",),
    },
)  # fmt: skip


def cast(cpu: str | None = None) -> Cast:
    """The baseline in bf16, as the model was published, where the processor counts in it; else in fp32, faster there.

    `cpu` is what Linux tells of it in /proc/cpuinfo; elsewhere nothing is known and fp32 is taken.
    """
    if cpu is None:
        file = Path("/proc/cpuinfo")
        cpu = file.read_text() if sys.platform == "linux" and file.is_file() else ""
    return HALF if any(unit in cpu for unit in BF16_UNITS) else FULL
