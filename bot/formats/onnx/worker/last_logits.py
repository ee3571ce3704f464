"""A graph that says the logits of a few positions, where the runtime would have it say those of all.

onnxruntime-genai allocates the logits of all ids that it is given at once: for the 4,097 that a text has to pass its
LongRoPE switch with, 3.3 GB with a vocabulary of 200,064. It knows graphs that say the last position's alone, though,
and hands over whatever else a graph gives out.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.onnx.worker.files import read_graph

ROWS = "last_rows"  #: the output that is added, of shape (1, positions, vocabulary)
LOGITS = "logits"  #: the output that every graph has
POSITIONS = "wanted_positions"  #: the input that is added where any positions may be asked for, of shape (positions,)

_PRODUCTS = ("MatMul", "MatMulNBits")
_AFTER = ("Add", "Cast", "Mul")  # a bias, another type, a scale


def with_rows(folder: Path, most: int) -> bytes:
    """Return the graph in a folder with an output ``ROWS``: the logits of the last positions, ``most`` or fewer.

    Its output of logits has those of the last one. The weights stay in the folder's files. Raises ValueError for a
    graph whose logits are not made by a product with a matrix.
    """
    import onnx_ir

    model = read_graph(folder)
    graph = model.graph
    place, logits = next((i, v) for i, v in enumerate(graph.outputs) if v.name == LOGITS)
    product = _product(logits)
    states = _last(graph, product.inputs[0], most, "states")
    product.replace_input_with(0, states.outputs[0])
    graph.insert_before(product, states)
    vocabulary = logits.shape[2]
    logits.name = ROWS
    logits.shape = onnx_ir.Shape(["batch_size", "last_rows", vocabulary])
    alone = _last(graph, logits, 1, "position")
    alone.outputs[0].name = LOGITS
    alone.outputs[0].dtype = logits.dtype
    alone.outputs[0].shape = onnx_ir.Shape(["batch_size", 1, vocabulary])  # by the 1 the runtime knows such a graph
    graph.append(alone)
    graph.outputs[place] = alone.outputs[0]
    graph.outputs.append(logits)
    serialized: bytes = onnx_ir.to_proto(model).SerializeToString()
    return serialized


def with_positions(folder: Path) -> bytes:
    """Return the graph in a folder with an input ``POSITIONS``: it gives out the logits of these alone.

    Raises ValueError as ``with_rows`` does.
    """
    import onnx_ir

    model = read_graph(folder)
    graph = model.graph
    logits = next(v for v in graph.outputs if v.name == LOGITS)
    product = _product(logits)
    positions = onnx_ir.Value(
        name=POSITIONS, shape=onnx_ir.Shape([POSITIONS]), type=onnx_ir.TensorType(onnx_ir.DataType.INT64)
    )
    graph.inputs.append(positions)
    states = onnx_ir.node("Gather", [product.inputs[0], positions], {"axis": 1}, name=f"{ROWS}/states")
    states.outputs[0].name = f"{ROWS}/states/output"
    product.replace_input_with(0, states.outputs[0])
    graph.insert_before(product, states)
    logits.shape = onnx_ir.Shape(["batch_size", POSITIONS, logits.shape[2]])
    serialized: bytes = onnx_ir.to_proto(model).SerializeToString()
    return serialized


def _product(value: Any) -> Any:
    node = value.producer()
    while node is not None and node.op_type in _AFTER:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in _PRODUCTS:
        made = "nothing" if node is None else node.op_type
        raise ValueError(f"the logits are made by {made}, not by a product with a matrix")
    return node


def _last(graph: Any, value: Any, count: int, name: str) -> Any:
    """Return a node that takes the last entries of a value's second axis, or all where there are fewer."""
    import onnx_ir

    bounds = []
    for what, number in (("starts", -count), ("ends", np.iinfo(np.int64).max), ("axes", 1)):
        tensor = onnx_ir.tensor(np.array([number], dtype=np.int64), name=f"{ROWS}/{name}/{what}")
        bounds.append(onnx_ir.Value(name=tensor.name, type=onnx_ir.TensorType(tensor.dtype), const_value=tensor))
        graph.register_initializer(bounds[-1])
    node = onnx_ir.node("Slice", [value, *bounds], name=f"{ROWS}/{name}")
    node.outputs[0].name = f"{ROWS}/{name}/output"
    return node
