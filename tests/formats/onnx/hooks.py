"""What tests and benchmarks of all formats ask ONNX (tests/formats/hooks.py)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.controls.artifacts import (
    OTHER_PRE_TOKENIZER,
    SHIFTED_BLOCK,
    TOKENIZER_FILES,
    change_at,
    enlarge,
    next_nibble,
    scale_of,
    usual_faults,
)
from tests.formats.hooks import ByHand, Hooks, Journey
from tests.worker.running import run_python

_PROGRAM = """
import json, sys
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
stop = set(json.load(open(sys.argv[1] + "/genai_config.json"))["model"]["eos_token_id"])
out = []
for ids, count in json.loads(sys.argv[2]):
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(ids) + count)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    made = []
    while not generator.is_done():
        generator.generate_next_token()
        token = int(generator.get_next_tokens()[0])
        if token in stop:
            break
        made.append(token)
    out.append(made)
print(json.dumps(out))
"""

# Prints where the scales of a matrix are in the file of weights, how many, and their type; where the weights of 4 bits
# are, and how many bytes have those of a block.
_SCALES = """
import sys, onnx_ir
model = onnx_ir.load(sys.argv[1] + "/model.onnx")
node = next(n for n in model.graph if n.op_type == "MatMulNBits" and "layers.1/attn/qkv" in n.name)
assert node.attributes["bits"].as_int() == 4 and len(node.inputs) == 3, "it has zero points"
packed, scales = (v.const_value for v in node.inputs[1:3])
print(scales.offset, scales.size, scales.numpy().dtype.str, packed.offset, packed.shape[-1])
"""


def _enlarge_a_scale(folder: Path, fault: str) -> None:
    path = folder / "model.onnx.data"
    start, count, kind, *_ = run_python(ensure("onnx", Silent()), _SCALES, folder).split()
    scales = np.fromfile(path, kind, int(count), offset=int(start))
    enlarge(path, int(start) + scales.itemsize * scale_of(scales, fault), kind, fault)


def _shift_a_block(folder: Path) -> None:
    """Change each weight of a block by a step: its zero point is 8, and not in the file."""
    path = folder / "model.onnx.data"
    start, count, kind, packed, size = run_python(ensure("onnx", Silent()), _SCALES, folder).split()
    block = scale_of(np.fromfile(path, kind, int(count), offset=int(start)), SHIFTED_BLOCK)
    place = int(packed) + int(size) * block
    change_at(path, place, "u1", lambda codes: next_nibble(next_nibble(codes), 1), count=int(size))


def _commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    options = variant.options
    extra = {"hf_token": "false", "hf_remote": "false"} | options.get("extra_options", {})
    yield [
        *(str(toolchain.python), "-m", "onnxruntime_genai.models.builder"),
        *("-i", str(source), "-o", str(folder / "out")),
        *("-p", options["precision"], "-e", options["execution_provider"], "-c", str(folder / "cache")),
        *("--extra_options", *(f"{key}={value}" for key, value in extra.items())),
    ]


HOOKS = Hooks(
    journey=Journey(variant="onnx/cpu-int4", program=_PROGRAM, fetched=("--include", "cpu-int4/*"), inside="cpu-int4"),
    by_hand=ByHand(commands=_commands, memory=6.3),
    faults=usual_faults(_enlarge_a_scale, stop_ids=("genai_config.json",), tokenizer="tokenizer.json")
    | {SHIFTED_BLOCK: _shift_a_block},
    seen_by={OTHER_PRE_TOKENIZER: "loading"},
    refused=("phi-3.5-moe", "phi-tiny-moe"),
    files={"model.onnx": "A graph.", "model.onnx.data": "The weights of {name}.", "genai_config.json": "{{}}"},
    published=("genai_config.json", "model.onnx", "model.onnx.data", *TOKENIZER_FILES),
    versions={"onnx-ir": "1.1.0", "onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0"},
    runtime="onnxruntime-genai 0.18.0",
    most_memory=2e9,
)
