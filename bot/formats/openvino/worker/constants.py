"""The numbers beside the weights of an OpenVINO model: constants and attributes of the operations in its graph."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.formats.openvino.worker.runtime import send_nothing
from bot.records.tasks import VerifyTask
from bot.worker.constants import EPSILON, JITTER, SCALE, WINDOW, Constant, window

_SCALE_INPUT = 4  # of ScaledDotProductAttention, behind the mask
_ROUTER = ".mlp.router"
_BEFORE_WINDOW = "__module.model/aten::sub/Subtract"  # the last position that a window of so many leaves out


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield the epsilon of every norm, the scale of every attention, each router's jitter, and the window of all masks.

    Raises ValueError for a norm or a scale that is computed.
    """
    send_nothing()
    import openvino

    longest = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    held_back = 0.0
    model = openvino.Core().read_model(Path(task.artifact) / "openvino_model.xml")
    for node in model.get_ordered_ops():
        where = node.get_friendly_name().split("/")[0].removeprefix("__module.")
        kind, inputs = node.get_type_name(), node.input_values()
        if kind == "MVN":
            yield Constant(what=EPSILON, where=where, value=node.get_attributes()["eps"])
        elif kind == "Add" and any(value.get_node().get_type_name() == "ReduceMean" for value in inputs):
            yield Constant(what=EPSILON, where=where, value=_number(inputs, node))
        elif kind == "ScaledDotProductAttention" and len(inputs) > _SCALE_INPUT:
            yield Constant(what=SCALE, where=where, value=_number(inputs[_SCALE_INPUT:], node))
        elif kind == "Greater" and where.endswith(_ROUTER):  # once for each of the experts that it chooses
            yield Constant(what=JITTER, where=where, value=_number(inputs, node) / 2)
        elif kind == "Greater" and (before := inputs[1].get_node()).get_friendly_name().endswith(_BEFORE_WINDOW):
            held_back = -_number(before.input_values(), before)
    yield Constant(what=WINDOW, value=window(held_back, longest))


def _number(values: list[Any], node: Any) -> float:
    """Return the one of an operation's inputs that is a single number. Raises ValueError where it is computed."""
    for value in values:
        made = value.get_node()
        while made.get_type_name() == "Convert":
            made = made.input_value(0).get_node()
        if made.get_type_name() == "Constant" and made.data.size == 1:
            return float(made.data.reshape(-1)[0])
    raise ValueError(f"{node.get_friendly_name()} computes with no number of its own")
