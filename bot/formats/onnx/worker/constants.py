"""The numbers beside the weights of an ONNX model: the attributes of its norms and of its attention."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.formats.onnx.worker.files import read_graph
from bot.formats.onnx.worker.norms import norm_of
from bot.records.tasks import VerifyTask
from bot.worker.constants import CAP, EPSILON, HEADS, KEY_HEADS, SCALE, WINDOW, Constant

_ATTENTION = ("GroupQueryAttention", "MultiHeadAttention")
_STATED = {"num_heads": HEADS, "kv_num_heads": KEY_HEADS, "softcap": CAP, "local_window_size": WINDOW, "scale": SCALE}
_ROTARY = {"do_rotary": (0, 1), "rotary_interleaved": (0,)}  # whether the node turns queries and keys, and which pairs


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield the epsilon of every norm, and what each layer's attention has attributes for.

    Raises ValueError for an attribute that no Phi's have: onnxruntime may compute with it.
    """
    for node in read_graph(Path(task.artifact)).graph:
        if norm := norm_of(node):
            yield Constant(what=EPSILON, where=norm.place, value=norm.epsilon)
            _check_known(node, set(norm.other))
        elif node.op_type in _ATTENTION:
            where = node.name.removeprefix("/model/").rpartition("/")[0]
            yield from _attention(node, where, {name: attribute.value for name, attribute in node.attributes.items()})


def _attention(node: Any, where: str, attributes: dict[str, Any]) -> Iterator[Constant]:
    for name, what in _STATED.items():
        value = attributes.pop(name, 0)
        if what == WINDOW:
            yield Constant(what=what, where=where, value=max(value, 0))  # -1 for none
        elif value or what == CAP:  # without a scale, onnxruntime takes that of the size of a head
            yield Constant(what=what, where=where, value=value)
    _check_known(node, {n for n, value in attributes.items() if value not in _ROTARY.get(n, ())})


def _check_known(node: Any, other: set[str]) -> None:
    if other:
        raise ValueError(f"{node.name} has the attribute {min(other)}, which no Phi has")
