"""What tests and benchmarks of all formats ask MLX (tests/formats/hooks.py)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from tests.controls.artifacts import SHIFTED_BLOCK, TOKENIZER_FILES, change_at, enlarge, scale_of, usual_faults
from tests.controls.checkpoint import Array, bfloat16, float32
from tests.formats.hooks import ByHand, Hooks, Journey

_PROGRAM = """
import json, sys
from mlx_lm import load, stream_generate
model, tokenizer = load(sys.argv[1])
out = []
for ids, count in json.loads(sys.argv[2]):
    made = [r.token for r in stream_generate(model, tokenizer, ids, max_tokens=count)]
    out.append([t for t in made if t not in tokenizer.eos_token_ids])
print(json.dumps(out))
"""


def _enlarge_a_scale(folder: Path, fault: str) -> None:
    path, start, scales, _ = _groups(folder)
    enlarge(path, start + 2 * scale_of(scales, fault), "bfloat16", fault)


def _shift_a_bias(folder: Path) -> None:
    path, _, scales, biases = _groups(folder)
    group = scale_of(scales, SHIFTED_BLOCK)
    change_at(path, biases + 2 * group, "<u2", lambda bias: bfloat16(float32(bias) + scales[group]))


def _groups(folder: Path) -> tuple[Path, int, Array, int]:
    """Return the file, the place of a matrix's scales in it, these scales, and the place of the biases."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header: dict[str, Json] = json.loads(data[8 : 8 + header_size])
    name = next(n for n in header if ".layers.1." in n and n.endswith(".scales"))
    scales, biases = header[name], header[name.replace(".scales", ".biases")]
    assert scales["dtype"] == biases["dtype"] == "BF16"
    start, end, other = (8 + header_size + place for place in (*scales["data_offsets"], biases["data_offsets"][0]))
    return path, start, float32(np.frombuffer(data[start:end], "<u2")), other


def _commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    options = variant.options
    command = [str(toolchain.python), "-m", "mlx_lm", "convert"]
    command += ["--hf-path", str(source), "--mlx-path", str(folder / "out")]
    if "bits" in options:
        command += ["-q", "--q-bits", str(options["bits"]), "--q-group-size", str(options["group_size"])]
    else:
        command += ["--dtype", options["dtype"]]
    yield command


HOOKS = Hooks(
    journey=Journey(variant="mlx/4bit", program=_PROGRAM),
    by_hand=ByHand(commands=_commands, memory=None),
    faults=usual_faults(
        _enlarge_a_scale, stop_ids=("config.json", "generation_config.json"), tokenizer="tokenizer.json"
    )
    | {SHIFTED_BLOCK: _shift_a_bias},
    refused=("phi-tiny-moe",),
    files={"model.safetensors": "The weights of {name}.", "config.json": "{{}}"},
    published=(
        *("config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"),
        *TOKENIZER_FILES,
    ),
    versions={"mlx": "0.32.4", "mlx-lm": "0.32.2"},
    runtime="mlx-lm 0.32.2",
    most_memory=3e9,
)
