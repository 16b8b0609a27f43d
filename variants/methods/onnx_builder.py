"""The model builder of onnxruntime-genai as a program of its own, which holds the weights once.

    python -P onnx_builder.py SCRATCH …     (what follows are the builder's own arguments, with absolute paths)

The builder hands its whole float graph as one message to ONNX Runtime's quantizer: more than five times the weights.
Here the float graph goes to files in SCRATCH first, and the quantizer reads one matrix at a time from there and takes
some rows of it at once. Each block of a matrix is quantized from its own numbers alone, so the result is the same to
the byte.
"""

import gc
import os
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

ROWS_BYTES = 8 * 2**20  # of a float32 matrix, quantized at once
BUILDER = "onnxruntime_genai.models.builder"
QUANTIZERS = ("quant_tensor", "quant_tensor_k_quant_cuda")


def main(scratch: Path, arguments: list[str]) -> None:
    """Runs the builder with `arguments`, its float graph in `scratch`."""
    import_module("onnxruntime_genai.models")  # puts the builder's own modules on the path
    quantizing: Any = import_module("onnxruntime.quantization.neural_compressor.weight_only")
    for name in QUANTIZERS:
        setattr(quantizing, name, by_rows(getattr(quantizing, name)))
    model: Any = import_module("builders.base").Model
    model.to_nbits = from_disk(model.to_nbits)
    os.chdir(scratch)  # where the quantizer looks for weights that lie outside the graph
    sys.argv = [BUILDER, *arguments]
    runpy.run_module(BUILDER, run_name="__main__")


def from_disk(to_nbits: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The builder's `to_nbits`, its graph's weights written into the working directory and read from there."""
    onnx_ir: Any = import_module("onnx_ir")

    def streamed(builder: Any) -> Any:
        onnx_ir.save(builder.model, "float.onnx", external_data="float.data", size_threshold_bytes=0)
        for value in builder.model.graph.initializers.values():
            value.const_value = None
        gc.collect()  # now the weights as torch holds them are gone
        builder.model = onnx_ir.load("float.onnx")
        return to_nbits(builder)

    return streamed


def by_rows(quantize: Callable[..., Any]) -> Callable[..., Any]:
    """`quantize` of a matrix (rows, columns), which works in blocks along its rows, called with some rows at a time."""
    import numpy as np

    def sliced(matrix: Any, *arguments: Any, **named: Any) -> Any:
        size = max(1, ROWS_BYTES // (4 * matrix.shape[1]))
        parts = [quantize(matrix[first : first + size], *arguments, **named) for first in range(0, len(matrix), size)]
        levels, scales, zeros = zip(*[(part[0].astype("uint8"), *part[1:]) for part in parts], strict=True)
        return np.concatenate(levels), np.concatenate(scales), None if zeros[0] is None else np.concatenate(zeros)

    return sliced


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
