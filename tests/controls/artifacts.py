"""Faults in files that are built, format by format: as if the format's own tool had written them so."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from bot.progress import Silent
from bot.records.artifacts import Json
from bot.toolchains.install import ensure
from tests.controls.checkpoint import change_json
from tests.worker.running import run_python

Damage = Callable[[Path], None]


def _replace(path: Path, old: bytes, new: bytes, *, all_of_them: bool = False) -> None:
    data = path.read_bytes()
    assert old in data, f"{path.name} has no {old!r}"
    path.write_bytes(data.replace(old, new, -1 if all_of_them else 1))


def _the(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


# ---- one quantization scale doubled --------------------------------------------------------------------------


def _double_in_gguf(folder: Path) -> None:
    """Double the scale of the block with the largest one, in a matrix of k-quants that have it first."""
    code = """
import sys, numpy as np
from gguf import GGUFReader, GGMLQuantizationType
reader = GGUFReader(sys.argv[1], "r+")
tensor = next(t for t in reader.tensors if t.tensor_type == GGMLQuantizationType.Q4_K and "blk.1." in t.name)
scales = tensor.data.reshape(-1, 144)[:, :2].copy().view(np.float16)[:, 0]
block = int(scales.argmax())
tensor.data.reshape(-1, 144)[block, :2] = np.array([scales[block] * 2]).view(np.uint8)
reader.data.flush()
"""
    run_python(ensure("gguf", Silent()), code, _the(folder, "*.gguf"))


def _double_in_onnx(folder: Path) -> None:
    code = """
import sys, numpy as np, onnx_ir
model = onnx_ir.load(sys.argv[1] + "/model.onnx")
name, value = next((n, v) for n, v in model.graph.initializers.items() if ".1.attn.qkv" in n and n.endswith("scales"))
tensor = value.const_value
scales = np.array(tensor.numpy())
place = tensor.offset + int(np.abs(scales).argmax()) * scales.itemsize
print(place, scales.dtype.str)
"""
    place, kind = run_python(ensure("onnx", Silent()), code, folder).split()
    _double(folder / "model.onnx.data", int(place), kind)


def _double_in_openvino(folder: Path) -> None:
    for layer in ET.parse(folder / "openvino_model.xml").iter("layer"):  # noqa: S314
        if layer.get("type") == "Const" and re.search(r"layers\.1\..*/scale$", layer.get("name", "")):
            data = layer.find("data")
            assert data is not None
            assert data.get("element_type") == "f16"
            start, size = int(data.get("offset", "")), int(data.get("size", ""))
            path = folder / "openvino_model.bin"
            scales = np.frombuffer(path.read_bytes()[start : start + size], "<f2")
            _double(path, start + 2 * int(np.abs(scales).argmax()), "<f2")
            return
    raise AssertionError("no scale of layer 1")


def _double_in_mlx(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header: dict[str, Json] = json.loads(data[8 : 8 + header_size])
    entry = next(e for n, e in header.items() if ".layers.1." in n and n.endswith(".scales"))
    assert entry["dtype"] == "BF16"
    start = 8 + header_size + entry["data_offsets"][0]
    end = 8 + header_size + entry["data_offsets"][1]
    scales = (np.frombuffer(data[start:end], "<u2").astype("<u4") << 16).view("<f4")
    _double(path, start + 2 * int(np.abs(scales).argmax()), "bfloat16")


def _double(path: Path, place: int, kind: str) -> None:
    """Double the number at a place of a file."""
    width = 2 if kind == "bfloat16" else np.dtype(kind).itemsize
    with path.open("r+b") as file:
        file.seek(place)
        stored = file.read(width)
        if kind == "bfloat16":
            new = (int.from_bytes(stored, "little") + 0x80).to_bytes(2, "little")  # one more in the exponent
        else:
            new = (np.frombuffer(stored, kind) * 2).astype(kind).tobytes()
        file.seek(place)
        file.write(new)


DOUBLE_A_SCALE: dict[str, Damage] = {
    "gguf": _double_in_gguf,
    "onnx": _double_in_onnx,
    "openvino": _double_in_openvino,
    "mlx": _double_in_mlx,
}

# ---- <|end|> no stop token -----------------------------------------------------------------------------------


def _forget_in_json(folder: Path, *, file: str) -> None:
    """Take the first id, <|end|>'s, from the list of those that end generation."""

    def forget(config: Json) -> None:
        holder = config.get("model", config)
        holder["eos_token_id"] = holder["eos_token_id"][1:]

    change_json(folder / file, forget)


def _forget_in_mlx(folder: Path) -> None:
    for file in ("config.json", "generation_config.json"):
        _forget_in_json(folder, file=file)


FORGET_END: dict[str, Damage] = {
    # llama.cpp knows the token by its text: to stop being a stop token it needs another text.
    "gguf": lambda folder: _replace(_the(folder, "*.gguf"), b"<|end|>", b"<|End|>"),
    "onnx": partial(_forget_in_json, file="genai_config.json"),
    "openvino": partial(_forget_in_json, file="generation_config.json"),
    "mlx": _forget_in_mlx,
}

# ---- another pre-tokenizer -----------------------------------------------------------------------------------

# Numbers are split into threes; then they are not.
OTHER_PRE_TOKENIZER: dict[str, Damage] = {
    "gguf": lambda folder: _replace(_the(folder, "*.gguf"), b"gpt-4o", b"falcon"),
    "onnx": lambda folder: _replace(folder / "tokenizer.json", b"{1,3}", b"{1,9}", all_of_them=True),
    "openvino": lambda folder: _replace(folder / "openvino_tokenizer.bin", b"{1,3}", b"{1,9}", all_of_them=True),
    "mlx": lambda folder: _replace(folder / "tokenizer.json", b"{1,3}", b"{1,9}", all_of_them=True),
}

# ---- data file cut short -------------------------------------------------------------------------------------


def _cut(folder: Path) -> None:
    largest = max(folder.iterdir(), key=lambda p: p.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size - 1000)


CUT_SHORT: dict[str, Damage] = dict.fromkeys(("gguf", "onnx", "openvino", "mlx"), _cut)
