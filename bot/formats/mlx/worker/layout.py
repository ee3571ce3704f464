"""Where MLX puts each array in the files of a model, to the byte, before any is computed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.worker.fast import NotCovered

Array = Any  # mlx is not installed where mypy runs


@dataclass(frozen=True, kw_only=True)
class ArrayPlace:
    """Where an array begins, in which file, and its size: all in bytes."""

    file: str
    begin: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a model: each one's header and size in bytes, and the place of each array by its name."""

    headers: Mapping[str, bytes]
    sizes: Mapping[str, int]
    places: Mapping[str, ArrayPlace]


def layout(model: Any, scratch: Path) -> Layout:
    """Return what ``mlx_lm.utils.save_model`` would make of a model whose parameters are not computed yet.

    Raises NotCovered where MLX writes its headers in another form than this knows.
    """
    from mlx.utils import tree_flatten
    from mlx_lm.utils import make_shards

    shards = make_shards(dict(tree_flatten(model.parameters())))
    headers, sizes, places = {}, {}, {}
    for number, arrays in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        order = _order(arrays, scratch / "order.safetensors")
        begins, end = {}, 0
        for name in order:
            begins[name], end = end, end + arrays[name].nbytes
        entries = {name: _entry(order[name], arrays[name].shape, begins[name], arrays[name].nbytes) for name in order}
        headers[file] = _header(entries)
        sizes[file] = len(headers[file]) + end
        for name, begin in begins.items():
            places[name] = ArrayPlace(file=file, begin=len(headers[file]) + begin, size=arrays[name].nbytes)
    return Layout(headers=headers, sizes=sizes, places=places)


def index(model: Any, places: Mapping[str, ArrayPlace]) -> dict[str, Json]:
    """Return the index of the files, which save_model writes for a single one too."""
    from mlx_lm.utils import get_total_parameters

    return {
        "metadata": {
            "total_size": sum(place.size for place in places.values()),
            "total_parameters": get_total_parameters(model),
        },
        "weight_map": {name: places[name].file for name in sorted(places)},
    }


def _order(arrays: Mapping[str, Array], probe: Path) -> dict[str, str]:
    """Return the types of a file's arrays, in the order in which they lie in it.

    It is that of a C++ hash table, so it depends on the names, on the order in which they were handed over, and on the
    standard library that MLX was built with. MLX itself tells it: by a file of the same names, with one number each.
    """
    import mlx.core as mx

    mx.save_safetensors(
        str(probe), {name: mx.zeros((1,), array.dtype) for name, array in arrays.items()}, metadata={"format": "mlx"}
    )
    raw = probe.read_bytes()
    probe.unlink()
    size = 8 + int.from_bytes(raw[:8], "little")
    entries: dict[str, dict[str, Json]] = json.loads(raw[8:size])
    entries.pop("__metadata__", None)
    if _header(entries) != raw[:size]:
        raise NotCovered("MLX writes the headers of its files in another form")
    return {n: e["dtype"] for n, e in sorted(entries.items(), key=lambda item: item[1]["data_offsets"])}


def _entry(dtype: str, shape: tuple[int, ...], begin: int, size: int) -> dict[str, Json]:
    return {"data_offsets": [begin, begin + size], "dtype": dtype, "shape": list(shape)}


def _header(entries: Mapping[str, dict[str, Json]]) -> bytes:
    """Return a file's header, with its length before it."""
    whole = {**entries, "__metadata__": {"format": "mlx"}}
    raw = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return len(raw).to_bytes(8, "little") + raw
