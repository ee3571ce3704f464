"""What tests and benchmarks of all formats ask GGUF (tests/formats/hooks.py)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.controls.artifacts import (
    FACTORS,
    NO_STOP_TOKEN,
    OTHER_PRE_TOKENIZER,
    SHIFTED_BLOCK,
    change_at,
    enlarge,
    only,
    replace_bytes,
    scale_of,
)
from tests.controls.checkpoint import Array
from tests.formats.hooks import ByHand, Hooks, Journey
from tests.worker.running import run_python

_PROGRAM = """
import json, sys
from llama_cpp import Llama, llama_model_get_vocab, llama_vocab_is_eog
llama = Llama.from_pretrained(repo_id=sys.argv[1], filename="*Q4_K_M.gguf", n_ctx=512, verbose=False)
vocabulary = llama_model_get_vocab(llama.model)
out = []
for ids, count in json.loads(sys.argv[2]):
    made = []
    for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
        if llama_vocab_is_eog(vocabulary, token) or len(made) == count:
            break
        made.append(token)
    out.append(made)
print(json.dumps(out))
"""

# Prints where the scales of the blocks of a matrix are in the file, which k-quants have first: one a block.
_SCALES = """
import sys
from gguf import GGUFReader, GGMLQuantizationType
tensor = next(
    t for t in GGUFReader(sys.argv[1]).tensors if t.tensor_type == GGMLQuantizationType.Q4_K and "blk.1." in t.name
)
print(tensor.data_offset, tensor.data.size)
"""

_BLOCK = 144  # bytes of 256 weights of Q4_K
_MINIMUMS = 8  # bytes before the first of the minimums of its eight blocks
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


def _enlarge_a_scale(folder: Path, fault: str) -> None:
    path, start, scales = _blocks(folder)
    enlarge(path, start + _BLOCK * scale_of(scales, fault), "<f2", fault)


def _blocks(folder: Path) -> tuple[Path, int, Array]:
    """Return the file, the place of a matrix in it, and the scale of each of its blocks."""
    path = only(folder, "*.gguf")
    start, size = map(int, run_python(ensure("gguf", Silent()), _SCALES, path).split())
    blocks = np.frombuffer(path.read_bytes()[start : start + size], np.uint8).reshape(-1, _BLOCK)
    return path, start, blocks[:, :2].copy().view("<f2")


def _shift_a_minimum(folder: Path) -> None:
    """Change what all weights of a block of 32 are moved by: the first minimum of its super-block, in 6 bits."""
    path, start, scales = _blocks(folder)
    place = start + _BLOCK * scale_of(scales, SHIFTED_BLOCK) + _MINIMUMS
    change_at(path, place, "u1", lambda packed: np.where(packed & 63 < 63, packed + 1, packed - 1))


def _commands(variant: Variant, toolchain: Toolchain, source: Path, folder: Path) -> Iterator[list[str]]:
    python, out = str(toolchain.python), folder / "out"
    converter = str(toolchain.python.parent.parent / "src" / "llama.cpp" / "convert_hf_to_gguf.py")
    kind = variant.options["ftype"]
    out.mkdir(exist_ok=True)
    target = str(out / f"model-{kind}.gguf")
    if kind in _CONVERTED:
        yield [python, converter, str(source), "--outtype", kind.lower(), "--outfile", target]
        return
    between = str(folder / "model-BF16.gguf")
    if not Path(between).exists():  # one does for all types
        yield [python, converter, str(source), "--outtype", "bf16", "--outfile", between]
    yield [python, "-c", _QUANTIZE, between, target, kind, str(_THREADS)]


HOOKS = Hooks(
    journey=Journey(variant="gguf/q4_k_m", program=_PROGRAM),
    by_hand=ByHand(commands=_commands, memory=0.15, between=2),
    faults={
        **{name: partial(_enlarge_a_scale, fault=name) for name in FACTORS},
        SHIFTED_BLOCK: _shift_a_minimum,
        # llama.cpp knows the token by its text: to stop being a stop token it needs another text.
        NO_STOP_TOKEN: lambda folder: replace_bytes(only(folder, "*.gguf"), b"<|end|>", b"<|End|>"),
        OTHER_PRE_TOKENIZER: lambda folder: replace_bytes(only(folder, "*.gguf"), b"dbrx", b"olmo"),
    },
    refused=("phi-tiny-moe",),
    files={"{model}-{name}.gguf": "The weights of {name}."},
    published=("{model}-{name}.gguf",),
    versions={"llama-cpp-python": "0.3.36", "torch": "2.13.0", "transformers": "5.23.0"},
    runtime="llama-cpp-python 0.3.36",
    most_memory=2e9,
)
