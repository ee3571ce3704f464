"""What tests and benchmarks of all formats ask PyTorch (tests/formats/hooks.py)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import bot
from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from tests.controls.artifacts import TOKENIZER_FILES, enlarge, scale_of, usual_faults
from tests.controls.checkpoint import Array, float32
from tests.formats.hooks import ByHand, Hooks, Journey

_PROGRAM = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ends = model.generation_config.eos_token_id
out = []
for ids, count in json.loads(sys.argv[2]):
    given = torch.tensor([ids])
    made = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=count)
    out.append([t for t in made[0, len(ids):].tolist() if t not in (ends if isinstance(ends, list) else [ends])])
print(json.dumps(out))
"""

# The library's own way, as llmcompressor uses it: compressed-tensors' modules in a model of transformers.
_CONVERT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.formats.torch.worker import beside, scheme, stock
source, out, preset = Path(sys.argv[2]), Path(sys.argv[3]), scheme.of_preset(sys.argv[4])
out.mkdir()
stock.write_weights(source, out, preset)
beside.write_beside(source, out, preset, [])
"""


def _enlarge_a_scale(folder: Path, fault: str) -> None:
    path, start, scales = _scales(folder)
    enlarge(path, start + 2 * scale_of(scales, fault), "bfloat16", fault)


def _scales(folder: Path) -> tuple[Path, int, Array]:
    """Return the file, the place of a matrix's scales in it, and these scales."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header: dict[str, Json] = json.loads(data[8 : 8 + header_size])
    scales = next(e for n, e in header.items() if ".layers.1." in n and n.endswith("weight_scale"))
    assert scales["dtype"] == "BF16"
    start, end = (8 + header_size + place for place in scales["data_offsets"])
    return path, start, float32(np.frombuffer(data[start:end], "<u2"))


def _commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    root, out = str(Path(bot.__file__).parents[1]), str(folder / "out")
    yield [str(toolchain.python), "-c", _CONVERT, root, str(source), out, variant.options["scheme"]]


HOOKS = Hooks(
    journey=Journey(variant="torch/w4a16", program=_PROGRAM),
    by_hand=ByHand(commands=_commands, memory=None),
    faults=usual_faults(
        _enlarge_a_scale, stop_ids=("config.json", "generation_config.json"), tokenizer="tokenizer.json"
    ),
    refused=("phi-3.5-moe", "phi-tiny-moe"),
    files={"model.safetensors": "The weights of {name}.", "config.json": "{{}}"},
    published=("config.json", "generation_config.json", "model.safetensors", *TOKENIZER_FILES),
    versions={"compressed-tensors": "0.19.0", "transformers": "5.23.0"},
    runtime="transformers 5.23.0 (on the CPU, in float32)",
    most_memory=1.5e9,
)
