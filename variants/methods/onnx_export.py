"""The model as ONNX, in blocks of few bits, for ONNX Runtime's generation engine."""

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import config_of, weight_bytes
from variants.lookup import need
from variants.method import STRICT, Say, Stage

INSTALL = "pip install onnxruntime-genai==0.18.0 onnx==1.23.2 onnx_ir==1.1.0"
BUILDER = Path(__file__).with_name("onnx_builder.py")
LIBRARIES = 480 * 2**20  # what the builder's process holds before there is a model: torch, transformers, ONNX Runtime
SAY_EVERY_S = 5.0  # also how soon a cancelled build notices
LEFT_OUT = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}  # the parent's own are taken


@dataclass(frozen=True, config=STRICT)
class OnnxExport:
    """Matrices in blocks of 32 as `precision`; "k_quant" chooses scales more carefully than plain rounding ("rtn").

    Built by the model builder of onnxruntime-genai, for the architectures it knows (Llama, Qwen, Phi, Gemma, …), in a
    process of its own; a float32 copy of the weights lies on disk meanwhile.
    Run it with the runner `onnx`.
    """

    precision: Literal["int4", "int8", "fp32"] = "int4"
    algorithm: Literal["rtn", "k_quant"] = "k_quant"
    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "onnx"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime-genai", "onnx", "onnx_ir")
    own_process: ClassVar[bool] = True

    def peak_bytes(self, parent: Path) -> int:
        """Most memory the builder's process will hold: the stored weights, and the largest matrix twice in float32.

        What it writes (8 or 4 bits a weight) replaces the weights and is less.
        """
        return LIBRARIES + weight_bytes(parent) + 2 * 4 * largest_tensor(parent)

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        need("onnxruntime-genai", "The method onnx", INSTALL, module="onnxruntime_genai")
        need("onnx", "The method onnx", INSTALL)
        need("onnx_ir", "The method onnx", INSTALL)
        config_of(parent)
        say(f"writing {self.precision} matrices")
        into = directory.absolute()
        scratch = into / "scratch"
        scratch.mkdir()
        command = [sys.executable, "-P", str(BUILDER), str(scratch), "-m", str(parent.absolute()), "-o", str(into)]
        command += ["-p", self.precision, "-e", "cpu", "-c", str(scratch / "cache")]
        if self.precision != "fp32":
            command += ["--extra_options", f"algo_config={self.algorithm}"]
        code, told = run(command, say)
        if code or not (directory / "model.onnx").is_file():
            reason = (told.strip().splitlines() or ["no reason given"])[-1]
            raise BadInput(f"onnxruntime-genai cannot export {parent}: {reason}")
        shutil.rmtree(scratch)
        for name in LEFT_OUT:
            (directory / name).unlink(missing_ok=True)
        return {}


def run(command: list[str], say: Say) -> tuple[int, str]:
    """Exit code and standard error of a program; says how long it has run, and ends it when `say` raises."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        try:
            while True:
                try:
                    _, told = child.communicate(timeout=SAY_EVERY_S)
                    return child.returncode, told
                except subprocess.TimeoutExpired:
                    say(f"running for {time.monotonic() - began:.0f} s")
        finally:
            child.kill()


def largest_tensor(directory: Path) -> int:
    """Numbers in the largest tensor of the safetensors files in `directory`; their headers alone are read."""
    from safetensors import safe_open

    largest = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            sizes = (math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
            largest = max(largest, *sizes)
    return largest
