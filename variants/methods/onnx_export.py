"""The model as ONNX, in blocks of few bits, for ONNX Runtime's generation engine."""

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import config_of
from variants.lookup import need
from variants.method import STRICT, Say, Stage

INSTALL = "pip install onnxruntime-genai==0.18.0 onnx==1.23.2 onnx_ir==1.1.0"
BUILDER = "onnxruntime_genai.models.builder"
LEFT_OUT = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}  # the parent's own are taken


@dataclass(frozen=True, config=STRICT)
class OnnxExport:
    """Matrices in blocks of 32 as `precision`; "k_quant" chooses scales more carefully than plain rounding ("rtn").

    Built by the model builder of onnxruntime-genai, for the architectures it knows (Llama, Qwen, Phi, Gemma, …).
    Run it with the runner `onnx`.
    """

    precision: Literal["int4", "int8", "fp32"] = "int4"
    algorithm: Literal["rtn", "k_quant"] = "k_quant"
    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "onnx"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime-genai", "onnx", "onnx_ir")

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        need("onnxruntime-genai", "The method onnx", INSTALL, module="onnxruntime_genai")
        need("onnx", "The method onnx", INSTALL)
        need("onnx_ir", "The method onnx", INSTALL)
        config_of(parent)
        say(f"writing {self.precision} matrices")
        command = [sys.executable, "-m", BUILDER, "-m", str(parent), "-o", str(directory), "-p", self.precision]
        command += ["-e", "cpu", "-c", str(directory / "scratch")]
        if self.precision != "fp32":
            command += ["--extra_options", f"algo_config={self.algorithm}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not (directory / "model.onnx").is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BadInput(f"onnxruntime-genai cannot export {parent}: {reason}")
        for name in LEFT_OUT:
            (directory / name).unlink(missing_ok=True)
        return {}
