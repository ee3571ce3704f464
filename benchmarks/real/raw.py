"""The command lines with which a person makes each file without phi-bot, in the toolchain's own Python."""

from collections.abc import Iterator
from pathlib import Path

from bot.records.artifacts import Variant
from bot.toolchains import Toolchain

_THREADS = 2
_QUANTIZE = """
import ctypes, sys
import llama_cpp
source, out, kind, threads = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + kind)
params.nthread = int(threads)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)))
"""
_CONVERTED = {"F32", "F16", "BF16"}  # types that the converter writes itself


def commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    """Yield the commands that make a variant in ``folder / "out"``, to be run one after the other."""
    python, out = str(toolchain.python), folder / "out"
    options = variant.options
    if variant.format == "gguf":
        converter = str(toolchain.python.parent.parent / "src" / "llama.cpp" / "convert_hf_to_gguf.py")
        kind = options["ftype"]
        out.mkdir(exist_ok=True)
        target = str(out / f"model-{kind}.gguf")
        if kind in _CONVERTED:
            yield [python, converter, str(source), "--outtype", kind.lower(), "--outfile", target]
            return
        between = str(folder / "model-BF16.gguf")
        if not Path(between).exists():  # one does for all types
            yield [python, converter, str(source), "--outtype", "bf16", "--outfile", between]
        yield [python, "-c", _QUANTIZE, between, target, kind, str(_THREADS)]
    elif variant.format == "onnx":
        extra = {"hf_token": "false", "hf_remote": "false"} | options.get("extra_options", {})
        yield [
            *(python, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(out)),
            *("-p", options["precision"], "-e", options["execution_provider"], "-c", str(folder / "cache")),
            *("--extra_options", *(f"{key}={value}" for key, value in extra.items())),
        ]
    elif variant.format == "openvino":
        command = [str(toolchain.python.with_name("optimum-cli")), "export", "openvino", "--model", str(source)]
        command += ["--library", "transformers", "--task", "text-generation-with-past"]
        command += ["--weight-format", options["weight_format"]]
        for key in ("group_size", "ratio"):
            if key in options:
                command += [f"--{key.replace('_', '-')}", str(options[key])]
        yield [*command, *(["--sym"] if options.get("sym") else []), str(out)]
    else:
        command = [python, "-m", "mlx_lm", "convert", "--hf-path", str(source), "--mlx-path", str(out)]
        if "bits" in options:
            command += ["-q", "--q-bits", str(options["bits"]), "--q-group-size", str(options["group_size"])]
        else:
            command += ["--dtype", options["dtype"]]
        yield command
