"""MLX, looking into a folder without running it: its files, and the weights that mlx-lm reads from them."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.mlx.worker.modules import modules_of
from bot.formats.mlx.worker.unpack import dequantized
from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.records.tasks import VerifyTask
from bot.worker.json_files import json_object
from bot.worker.order import model_order
from bot.worker.rounding import Arithmetic, bfloat16, float16
from bot.worker.weights import ArtifactWeight, rows_at_once

Array = Any  # numpy is not installed where mypy runs
_Rows = tuple[tuple[int, ...], Callable[[], Iterator[Array]]]  # the shape of a tensor, and what yields its parts

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_GROUP = 32  # weights that share a scale at least; each is rounded to the nearest of its levels
_EXACT = 4  # bits at most, of which such scales leave each weight the nearest level
_SCALES = 2**-9  # the relative error of scales and offsets, which have the type of the model: bfloat16 mostly
_EXPERTS = ".switch_mlp."  # mlx-lm stacks the experts of a layer, and calls their matrices by what they do
_EXPERT_MATRICES = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def inspect(task: VerifyTask) -> str:
    """Say what is in an artifact: the weights, config.json, and the source's files that come with a model.

    Raises ValueError, naming the file, for one that is missing, damaged or too many.
    """
    folder, source = Path(task.artifact), Path(task.source)
    present = {p.name for p in folder.iterdir()}
    objects = {name: json_object(folder / name) for name in sorted(present) if name.endswith(".json")}
    places = _places(objects)
    copied = {name for name in CONTENT_FILES if (source / name).is_file()}
    needed = {_CONFIG, _INDEX, *places.values(), *copied}
    if missing := sorted(needed - present):
        raise ValueError(f"{missing[0]} is missing")
    if extra := sorted(present - needed):
        raise ValueError(f"{extra[0]} is not part of an MLX model")
    shards = sorted(set(places.values()))
    stored = {name: shard for shard in shards for name in _tensor_names(folder / shard)}
    if different := sorted(stored.items() ^ places.items()):
        name, shard = different[0]
        raise ValueError(f"{_INDEX} and {shard} do not agree on {name}")
    files = f"{len(shards)} safetensors file{'s' if len(shards) > 1 else ''} of {len(stored)} arrays"
    return f"{files}, and {len(present) - len(shards)} files beside"


def _places(objects: dict[str, dict[str, Json]]) -> dict[str, str]:
    """Return the file that the index names for each array."""
    if _INDEX not in objects:
        raise ValueError(f"{_INDEX} is missing")
    places = objects[_INDEX].get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(p, str) for p in places.values()):
        raise ValueError(f"{_INDEX} is damaged: it names no files")
    return places


def _tensor_names(file: Path) -> list[str]:
    """Return the names in a safetensors file whose header agrees with its size, which opening it checks."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error


def stored(task: VerifyTask) -> Iterator[ArtifactWeight]:
    """Yield every weight as mlx-lm's own modules hold it, one after the other, each dequantized as MLX does it.

    The modules know what the files alone do not say: the bits and the group size that each matrix is read with.
    """
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten

    model = modules_of(Path(task.artifact))
    leaves = tree_flatten(model.leaf_modules(), is_leaf=lambda m: isinstance(m, nn.Module))
    for path, module in sorted(leaves, key=lambda leaf: model_order(leaf[0])):
        for name, values in _weights(module):
            yield from _named(f"{path}.{name}", values, _GROUP if getattr(module, "bits", 0) <= _EXACT else 0)
        module.clear()  # what was read stays in memory while anything refers to it
        mx.clear_cache()


def arithmetic(task: VerifyTask) -> Arithmetic:
    """Return what MLX rounds: all states, to the type of the norms, which is that of what is not quantized."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    model = modules_of(Path(task.artifact))
    kind = next(array.dtype for name, array in tree_flatten(model.parameters()) if "norm" in name)
    return Arithmetic(states={mx.bfloat16: bfloat16, mx.float16: float16}.get(kind))


def _weights(module: Any) -> Iterator[tuple[str, Iterator[_Rows]]]:
    """Yield the name of each weight of a module, and its values: of one array, or of one an expert."""
    from mlx.utils import tree_flatten

    arrays = dict(tree_flatten(module.parameters()))
    scales, biases = arrays.pop("scales", None), arrays.pop("biases", None)
    for name, array in arrays.items():
        quantized = (array, scales, biases) if name == "weight" and scales is not None else (array,)
        if array.ndim == 3:
            yield name, (_rows(module, *(a[e] for a in quantized)) for e in range(len(array)))
        else:
            yield name, iter([_rows(module, *quantized)])


def _rows(module: Any, array: Any, scales: Any = None, biases: Any = None) -> _Rows:
    """Return the shape of an array that may be quantized, and its values in float32, some rows at a time.

    What is quantized is computed in float32 too, as Metal's kernels do.
    """
    columns = array.shape[1:] if scales is None else (scales.shape[-1] * module.group_size,)

    def parts() -> Iterator[Array]:
        step = min(rows_at_once(math.prod(columns)), len(array))
        room: Array = None if scales is None else np.empty((step, *columns), dtype=np.float32)
        for first in range(0, len(array), step):
            here = (a if a is None else a[first : first + step] for a in (array, scales, biases))
            yield _values(module, room, *here)

    return (len(array), *columns), parts


def _values(module: Any, room: Array, array: Any, scales: Any = None, biases: Any = None) -> Array:
    """Return an array in float32, in a room for it if it is quantized in bytes."""
    import mlx.core as mx

    if scales is None:
        return np.asarray(array.astype(mx.float32))
    how = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
    return dequantized(array, scales, biases, room=room, **how)


def _named(name: str, values: Iterator[_Rows], nearest: int) -> Iterator[ArtifactWeight]:
    """Give weights the names of the checkpoint. mlx-lm keeps all but those of experts."""
    layer, experts, matrix = name.partition(_EXPERTS)
    for number, (shape, parts) in enumerate(values):
        if experts:
            kind, _, rest = matrix.partition(".")
            name = f"{layer}.experts.{number}.{_EXPERT_MATRICES[kind]}.{rest}"
        yield ArtifactWeight(sources=(name,), shape=shape, parts=parts, nearest=nearest, scales=_SCALES)
