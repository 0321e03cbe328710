"""Making the ONNX model with onnxruntime-genai's model builder, in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tunesmith_api.enums import ExportPrecision
from tunesmith_trainer import log

#: Builder precision and extra options per export precision; measured quality and size: docs of each in the enum.
BUILDER_OPTIONS: dict[ExportPrecision, tuple[str, dict[str, str]]] = {
    ExportPrecision.EXACT: ("fp32", {}),
    ExportPrecision.QUALITY: ("int8", {}),
    ExportPrecision.BALANCED: (
        "int4",
        {"algo_config": "k_quant", "matmul_mixed_precision": "last_matmul:int8,mixed_layers:int8"},
    ),
    ExportPrecision.FAST: ("int4", {"block_size": "128"}),
}
_TAIL = 2000


class BuilderError(RuntimeError):
    """Raised when the model builder fails; carries the end of its output."""


def build_onnx(merged: Path, target: Path, precision: ExportPrecision) -> None:
    """Build `model.onnx`, `genai_config.json` and the tokenizer files from a merged model folder, for CPU.

    The builder loads the weights itself: it runs apart so that its memory is given back before the model is compared.

    Raises:
        BuilderError: the builder ends with an error.
    """
    builder_precision, options = BUILDER_OPTIONS[precision]
    extra = [f"{name}={value}" for name, value in {**options, "hf_token": "false"}.items()]
    with tempfile.TemporaryDirectory() as cache:
        command = [
            *(sys.executable, "-m", "onnxruntime_genai.models.builder"),
            *("-i", str(merged), "-o", str(target), "-p", builder_precision, "-e", "cpu", "-c", cache),
            *("--extra_options", *extra),
        ]
        log.info("building the ONNX model", precision=builder_precision, **options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (target / "model.onnx").is_file():
        raise BuilderError(f"the model builder ended with {done.returncode}: {(done.stderr or done.stdout)[-_TAIL:]}")
