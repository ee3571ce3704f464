"""The rotary embeddings of an ONNX model: the tables of cosines and sines that its graph carries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.onnx.worker.files import read_graph
from bot.records.tasks import VerifyTask
from bot.worker.rotary import Rotary
from bot.worker.windows import longrope_switch

Array = Any  # numpy is not installed where mypy runs

_TABLES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (2, 3)}  # which inputs are cosines and sines


def rotary(task: VerifyTask) -> Rotary:
    """Return the angles and scales in the tables. Raises ValueError for a graph that has none, or several."""
    model = read_graph(Path(task.artifact))
    tables = dict.fromkeys(_tables(model))
    if len(tables) != 1:
        raise ValueError(f"the graph has {len(tables)} pairs of tables for rotary embeddings, not 1")
    cosines, sines = next(iter(tables))
    branches = cosines.producer()
    if branches is None:
        return _rows(cosines, sines, _switch(task))
    if branches.op_type != "If" or branches.inputs[0].producer().op_type != "Greater":
        raise ValueError(f"the tables for rotary embeddings come from {branches.op_type}, not from a LongRoPE switch")
    (long, long_scale), (short, short_scale) = (
        _angles(*branches.attributes[name].value.outputs) for name in ("then_branch", "else_branch")
    )
    return Rotary(short=short, long=long, short_scale=short_scale, long_scale=long_scale)


def _switch(task: VerifyTask) -> int | None:
    return longrope_switch(json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8")))


def _rows(cosines: Any, sines: Any, switch: int | None) -> Rotary:
    """Read tables of which all rows are in one. DirectML cannot branch: the long rows come after the short ones."""
    short, short_scale = _angles(cosines, sines)
    if switch is None:
        return Rotary(short=short, short_scale=short_scale)
    long, long_scale = _angles(cosines, sines, first=switch)
    return Rotary(short=short, long=long, short_scale=short_scale, long_scale=long_scale)


def _tables(model: Any) -> Iterator[tuple[Any, Any]]:
    for node in model.graph:
        if node.op_type in _TABLES:
            cosines, sines = (node.inputs[i] if i < len(node.inputs) else None for i in _TABLES[node.op_type])
            if cosines is not None and sines is not None:  # attention that does not rotate has none
                yield cosines, sines


def _angles(cosines: Any, sines: Any, first: int = 0) -> tuple[Array, float]:
    """Return the angles at position 1, of which none is more than a radian, and the scale.

    ``first`` is the row of position 0. Raises ValueError for a table that ends before.
    """
    if _values(cosines).shape[0] <= first + 1:
        raise ValueError(f"the tables for rotary embeddings have no row {first + 1}")
    cosine, sine = (_values(table)[first + 1].astype(np.float64) for table in (cosines, sines))
    return np.arctan2(sine, cosine), float(np.hypot(sine, cosine).mean())


def _values(table: Any) -> Array:
    if table.const_value is not None:
        return table.const_value.numpy()
    return table.producer().attributes["value"].value.numpy()
