"""Small checkpoints in another form: other weights, types, several files, newer keys. All are changed in place."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bot.source import read_header
from tests.worker.test_tensors import write

Array = Any
Weights = dict[str, tuple[str, list[int], bytes]]  # type, shape and data, by name


def weights_of(source: Path) -> Weights:
    """The tensors of a checkpoint of one file, in its order."""
    whole = source / "model.safetensors"
    raw = whole.read_bytes()
    data = 8 + int.from_bytes(raw[:8], "little")
    return {n: (t.dtype, list(t.shape), raw[data + t.begin : data + t.end]) for n, t in read_header(whole).items()}


def change_weights(source: Path, change: Callable[[Weights], None]) -> Path:
    """Let a function change the tensors of a checkpoint of one file."""
    weights = weights_of(source)
    change(weights)
    (source / "model.safetensors").chmod(0o644)
    write(source / "model.safetensors", weights)
    return source


def drawn(source: Path) -> Path:
    """Give each tensor, stored as BF16, weights that are the same on every processor: trained ones are not.

    They are drawn from a hash of the tensor's name, exactly: near a normal distribution in a row, with outliers; rows
    are of different sizes. Norms and biases are near one.
    """

    def change(weights: Weights) -> None:
        for name, (kind, shape, _) in weights.items():
            weights[name] = (kind, shape, _drawn_matrix(name, shape) if len(shape) > 1 else _drawn_vector(name, shape))

    return change_weights(source, change)


def _drawn_matrix(name: str, shape: list[int]) -> bytes:
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    dice = np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * rows * columns), "u1").reshape(rows, columns, 4)
    sums = dice.sum(axis=2, dtype="<i4") - 510
    outliers = np.where(dice[:, :, 0] == dice[:, :, 1], 4, 1)  # one of 256
    sizes = 2.0 ** (np.arange(rows) % 4 - 14)
    return _bf16(sums * outliers * sizes[:, None])


def _drawn_vector(name: str, shape: list[int]) -> bytes:
    dice = np.frombuffer(hashlib.shake_256(name.encode()).digest(shape[0]), "u1")
    return _bf16(0.5 + dice / 256)


def _bf16(values: Array) -> bytes:
    return bytes((values.astype("<f4").view("<u4") >> 16).astype("<u2"))


def in_types(source: Path, kind_of: Callable[[str], str]) -> Path:
    """Give each tensor, stored as BF16, the type that a function says for its name: BF16, F16 or F32."""

    def change(weights: Weights) -> None:
        for name, (_, shape, stored) in weights.items():
            wide = (np.frombuffer(stored, "<u2").astype("<u4") << 16).view("<f4")
            data = {"BF16": stored, "F16": wide.astype("<f2").tobytes(), "F32": wide.tobytes()}
            weights[name] = (kind_of(name), shape, data[kind_of(name)])

    return change_weights(source, change)


def in_shards(source: Path) -> Path:
    """Divide the weights among three files, neighbours apart."""
    weights = weights_of(source)
    (source / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        part = dict(list(weights.items())[number::3])
        write(source / file, part)
        places |= dict.fromkeys(part, file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return source


def with_newer_keys(source: Path) -> Path:
    """Write the settings of the rotations as transformers 5 does."""
    config = json.loads((source / "config.json").read_text())
    settings = config.pop("rope_scaling")
    config["rope_parameters"] = settings | {"rope_type": settings["type"], "rope_theta": config.pop("rope_theta")}
    (source / "config.json").chmod(0o644)
    (source / "config.json").write_text(json.dumps(config))
    return source
