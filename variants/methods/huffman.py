"""Shared weights really stored small: codebooks and Huffman codes instead of numbers."""

from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import config_of, weight_bytes
from variants.method import STRICT, Say, Stage


@dataclass(frozen=True, config=STRICT)
class Huffman:
    """Every matrix of at most 4096 distinct values as a codebook and Huffman codes; the others as they are.

    The step after `kmeans_sharing`, `int4_per_row` or any other that leaves few values. The file is really that
    small, and opening it gives back the same bits; in memory and in speed the model is as before.
    """

    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "hf"
    revision: ClassVar[int] = 1

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        from variants.storage import huffman

        config_of(parent)
        say("coding matrices")
        coded, size = huffman.save(parent, directory)
        if not coded:
            raise BadInput(
                "No matrix has few enough distinct values to be coded. Put kmeans_sharing or another step that shares "
                "values before huffman."
            )
        return {"coded_matrices": float(coded), "compression": weight_bytes(parent) / size}
