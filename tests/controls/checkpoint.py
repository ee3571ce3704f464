"""Change a checkpoint's tensors and JSON files in place. Tensors are rows of bytes here: no type matters."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
Tensors = dict[str, Array]


def change_tensors(source: Path, change: Callable[[Tensors], None]) -> None:
    """Let ``change`` work on the tensors of a checkpoint in one file: 2-byte elements, as float16 or bfloat16 are."""
    path = source / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: np.frombuffer(data, "<u2", math.prod(e["shape"]), 8 + size + e["data_offsets"][0])
        .reshape(e["shape"])
        .copy()
        for name, e in header.items()
    }
    types = {name: e["dtype"] for name, e in header.items()}
    change(tensors)
    written: dict[str, Any] = {"__metadata__": metadata}
    content, offset = [], 0
    for name, values in tensors.items():
        kind = types.get(name, "BF16")
        written[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        content.append(values.tobytes())
        offset += values.nbytes
    text = json.dumps(written).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(content))


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    """Let ``change`` work on what a JSON file holds."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


def bfloat16(values: Array) -> Array:
    """Return float32 values as the 2-byte elements of bfloat16."""
    return (np.asarray(values, dtype="<f4").view("<u4") >> 16).astype("<u2")


def float32(elements: Array) -> Array:
    """Return the 2-byte elements of bfloat16 as float32 values."""
    return (elements.astype("<u4") << 16).view("<f4")
