"""What tests and benchmarks of all formats ask OpenVINO (tests/formats/hooks.py)."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from tests.controls.artifacts import (
    SHIFTED_BLOCK,
    TOKENIZER_FILES,
    change_at,
    enlarge,
    next_nibble,
    scale_of,
    usual_faults,
)
from tests.controls.checkpoint import Array
from tests.formats.hooks import ByHand, Hooks, Journey

_PROGRAM = """
import json, sys
import numpy as np, openvino as ov, openvino_genai as genai
pipe = genai.LLMPipeline(sys.argv[1], "CPU")
out = []
for ids, count in json.loads(sys.argv[2]):
    tokens = genai.TokenizedInputs(ov.Tensor(np.array([ids])), ov.Tensor(np.ones((1, len(ids)), np.int64)))
    made = pipe.generate(tokens, max_new_tokens=count, do_sample=False, apply_chat_template=False).tokens[0]
    out.append([int(t) for t in made])
print(json.dumps(out))
"""

_NUMPY = {"f16": "<f2", "u4": "u1"}  # of u4, two share a byte


def _enlarge_a_scale(folder: Path, fault: str) -> None:
    path, start, scales = _constant(folder, "scale", "f16")
    enlarge(path, start + 2 * scale_of(scales, fault), "<f2", fault)


def _shift_a_zero_point(folder: Path) -> None:
    _, _, scales = _constant(folder, "scale", "f16")
    path, start, _ = _constant(folder, "zero_point", "u4")
    group = scale_of(scales, SHIFTED_BLOCK)
    change_at(path, start + group // 2, "u1", lambda two: next_nibble(two, group))


def _constant(folder: Path, what: str, kind: str) -> tuple[Path, int, Array]:
    """Return the file of weights, the place in it of the scales or zero points of a matrix, and they: of what type."""
    for layer in ET.parse(folder / "openvino_model.xml").iter("layer"):  # noqa: S314
        if layer.get("type") == "Const" and re.search(rf"layers\.1\..*/{what}$", layer.get("name", "")):
            data = layer.find("data")
            assert data is not None
            assert data.get("element_type") == kind
            start, size = int(data.get("offset", "")), int(data.get("size", ""))
            path = folder / "openvino_model.bin"
            return path, start, np.frombuffer(path.read_bytes()[start : start + size], _NUMPY[kind])
    raise AssertionError(f"no {what} of layer 1")


def _commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    options = variant.options
    command = [str(toolchain.python.with_name("optimum-cli")), "export", "openvino", "--model", str(source)]
    command += ["--library", "transformers", "--task", "text-generation-with-past"]
    command += ["--weight-format", options["weight_format"]]
    for key in ("group_size", "ratio"):
        if key in options:
            command += [f"--{key.replace('_', '-')}", str(options[key])]
    yield [*command, *(["--sym"] if options.get("sym") else []), str(folder / "out")]


HOOKS = Hooks(
    journey=Journey(variant="openvino/int4", program=_PROGRAM, fetched=()),
    by_hand=ByHand(commands=_commands, memory=2.6, between=2),
    faults=usual_faults(_enlarge_a_scale, stop_ids=("generation_config.json",), tokenizer="openvino_tokenizer.bin")
    | {SHIFTED_BLOCK: _shift_a_zero_point},
    files={"openvino_model.xml": "A graph.", "openvino_model.bin": "The weights.", "config.json": "{{}}"},
    published=(
        *("config.json", "generation_config.json", "openvino_model.bin", "openvino_model.xml"),
        *(f"openvino_{name}.{kind}" for name in ("detokenizer", "tokenizer") for kind in ("bin", "xml")),
        *TOKENIZER_FILES,
    ),
    versions={"nncf": "3.4.0", "openvino": "2026.4.1", "optimum-intel": "2.2.0"},
    runtime="openvino-genai 2026.4.1.0",
    most_memory=1.5e9,
)
