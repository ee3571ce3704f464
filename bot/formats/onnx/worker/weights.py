"""The weights inside an ONNX model, as onnxruntime computes with them, by the names of the source's tensors.

A weight is known by the node that computes with it, not by its own name: a graph whose layers read each other's
weights is as wrong as one whose weights are swapped.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.onnx.worker.files import DATA, read_graph
from bot.formats.onnx.worker.norms import norm_of
from bot.records.tasks import VerifyTask
from bot.worker import mapped_pages, packed
from bot.worker.order import model_order
from bot.worker.rounding import Arithmetic, Rounding, eight_bits
from bot.worker.tensors import Tensors
from bot.worker.weights import ArtifactWeight, rows_at_once

Array = Any  # numpy is not installed where mypy runs
_Names = tuple[str, ...]
_Rows = tuple[tuple[int, ...], Callable[[], Iterator[Array]]]  # the shape of a tensor, and what yields its parts

_PRODUCTS = ("MatMul", "MatMulNBits")
_DEQUANTIZING = "DequantizeLinear"  # before a product, in graphs for TensorRT
_LOOK_UPS = ("Gather", "GatherBlockQuantized")
_ROTARY = ("GroupQueryAttention", "RotaryEmbedding")  # their tables are computed; predictions tell if they are right


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The same rows, one below the other, as graphs and as checkpoints hold them: either has one of several ways."""

    graph: tuple[_Names, ...]
    source: tuple[_Names, ...]


_LAYER = (
    _Part(
        graph=(("attn/qkv_proj",), ("attn/q_proj", "attn/k_proj", "attn/v_proj")),
        source=(("self_attn.qkv_proj",), ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ),
    _Part(graph=(("attn/o_proj",),), source=(("self_attn.o_proj",), ("self_attn.dense",))),
    _Part(graph=(("mlp/gate_proj", "mlp/up_proj"),), source=(("mlp.gate_up_proj",), ("mlp.gate_proj", "mlp.up_proj"))),
    _Part(graph=(("mlp/down_proj",),), source=(("mlp.down_proj",),)),
    _Part(graph=(("mlp/fc1",),), source=(("mlp.fc1",),)),
    _Part(graph=(("mlp/fc2",),), source=(("mlp.fc2",),)),
    _Part(graph=(("input_layernorm",),), source=(("input_layernorm",),)),
    _Part(graph=(("post_attention_layernorm",),), source=(("post_attention_layernorm",),)),
)
_BLOCK = 32  # weights that share a scale at least; each is rounded to the nearest of its levels
_EIGHT_BITS = 4  # the accuracy level of products with states of 8 bits
_EMBEDDING = "embed_tokens"
_OUTPUT = "lm_head"
_FINAL_NORM = "final_norm_layernorm"


@dataclass(kw_only=True)
class _Weights:
    """The nodes of a graph that hold weights, by their place: ``layers.0/attn/qkv_proj``."""

    matrices: dict[str, Any] = field(default_factory=dict)
    vectors: dict[str, Any] = field(default_factory=dict)  # weights of norms
    biases: dict[str, Any] = field(default_factory=dict)


def stored(task: VerifyTask) -> Iterator[ArtifactWeight]:
    """Yield every weight of the artifact as Means.stored. Raises ValueError for a graph that is none of Phi's."""
    source = set(Tensors(Path(task.source)).names())
    artifact = Path(task.artifact)
    found = _weights(read_graph(artifact).graph)
    placed: set[str] = set()
    groups = _groups(found, {n.removesuffix(".weight") for n in source})
    for places, names in sorted(groups, key=_order):
        placed.update(places)
        stored = [_values(found, p) for p in places]
        whole = _below(tuple(f"{n}.weight" for n in names), stored, artifact / DATA)
        output = places == (_OUTPUT,) and names != (_OUTPUT,)
        yield replace(whole, nearest=_BLOCK, rounding=_rounding(found, places[0]), output=output)
        biases = tuple(f"{n}.bias" for n in names)
        if source.intersection(biases) or found.biases.keys() & set(places):
            yield _below(biases, [_bias(found, p) for p in places], artifact / DATA)
    if unknown := sorted((found.matrices.keys() | found.vectors.keys() | found.biases.keys()) - placed):
        raise ValueError(f"the graph has weights in {unknown[0]}, which no Phi has")


def arithmetic(_: VerifyTask) -> Arithmetic:
    """Return what onnxruntime rounds on a CPU: what is multiplied with quantized weights, where nodes say so."""
    return Arithmetic(products=True)


# ---- where weights are ---------------------------------------------------------------------------------------


def _weights(graph: Any) -> _Weights:
    found = _Weights()
    for node in graph:
        place = node.name.rpartition("/")[0].removeprefix("/").removeprefix("model/")
        constant = [v for v in node.inputs if v is not None and v.is_initializer()]
        if (
            node.op_type in _LOOK_UPS
            if place == _EMBEDDING
            else node.op_type in _PRODUCTS and (constant or _dequantizing(node) is not None)
        ):
            _put(found.matrices, place, node)
        elif norm := norm_of(node):
            for number, value in enumerate(norm.constants):
                _put(found.biases if number else found.vectors, norm.place, value.const_value)
        elif node.op_type == "Add" and constant:
            _put(found.biases, place, constant[0].const_value)
        elif constant and node.op_type not in (*_ROTARY, _DEQUANTIZING) and place != _EMBEDDING:
            raise ValueError(f"the graph computes with {constant[0].name} in {node.name}, which no Phi has")
    return found


def _put(places: dict[str, Any], place: str, value: Any) -> None:
    if place in places:
        raise ValueError(f"the graph has weights in {place} twice")
    places[place] = value


def _dequantizing(product: Any) -> Any:
    """Return the node that dequantizes the matrix of a product from constants; None for a product of anything else."""
    node = product.inputs[1].producer()
    if node is None or node.op_type != _DEQUANTIZING:
        return None
    return node if all(v.is_initializer() for v in node.inputs if v is not None) else None


def _groups(found: _Weights, source: set[str]) -> Iterator[tuple[_Names, _Names]]:
    """Yield what belongs together: the places in a graph, and the tensors of the source without ``.weight``."""
    present = found.matrices.keys() | found.vectors.keys()
    # With a tied output matrix, both are the embedding.
    yield (_EMBEDDING,), ("model.embed_tokens",)
    yield (_OUTPUT,), ("lm_head" if "lm_head" in source else "model.embed_tokens",)
    for place in sorted(p for p in present if p.endswith(f"/{_FINAL_NORM}")):
        yield (place,), _way((("model.norm",), ("model.final_layernorm",)), source)
    layers = {p.split("/")[0] for p in present if p.startswith("layers.") and not p.endswith(f"/{_FINAL_NORM}")}
    for layer in sorted(layers, key=lambda name: int(name.removeprefix("layers."))):
        for part in _LAYER:
            places = _way(tuple(tuple(f"{layer}/{p}" for p in way) for way in part.graph), present)
            if places[0] in present:
                yield places, _way(tuple(tuple(f"model.{layer}.{n}" for n in way) for way in part.source), source)


def _order(group: tuple[_Names, _Names]) -> tuple[Any, ...]:
    places, names = group
    return model_order(_OUTPUT if places == (_OUTPUT,) else names[0])


def _way(ways: tuple[_Names, ...], present: Any) -> _Names:
    """Return the way all of which is present; the first where none is, which is then missed by its name."""
    return next((way for way in ways if all(name in present for name in way)), ways[0])


# ---- what they are -------------------------------------------------------------------------------------------


def _values(found: _Weights, place: str) -> _Rows:
    """Return the weights of a place: a matrix with a row for each output, or a norm's vector."""
    if place in found.vectors:
        return _rows(found.vectors[place].numpy())
    if place not in found.matrices:
        raise ValueError(f"the graph has no weights in {place}")
    node = found.matrices[place]
    if node.op_type == "Gather":
        return _rows(_embedding(node.inputs[0]))
    if node.op_type == "GatherBlockQuantized":
        return dequantized(node, _initializer_behind(node.inputs[0], "Reshape"), *node.inputs[2:4])
    if node.op_type == "MatMulNBits":
        return dequantized(node, *node.inputs[1:4])
    if (linear := _dequantizing(node)) is not None:
        return _transposed(linear)
    return _rows(node.inputs[1].const_value.numpy().T)  # MatMul has a column for each output


def _rounding(found: _Weights, place: str) -> Rounding | None:
    """Return how a node rounds the states that it multiplies with: MatMulNBits at accuracy level 4, to 8 bits a block.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
    """
    node = found.matrices.get(place)
    if node is None or node.op_type != "MatMulNBits":
        return None
    level = node.attributes["accuracy_level"].as_int() if "accuracy_level" in node.attributes else 0
    return eight_bits(node.attributes["block_size"].as_int()) if level == _EIGHT_BITS else None


def _bias(found: _Weights, place: str) -> _Rows:
    """Return the bias of a place. The builder leaves out one of zeros; one that is missing shows as zeros too."""
    if place in found.biases:
        return _rows(found.biases[place].numpy())
    if place in found.vectors:
        rows = found.vectors[place].shape[0]
    else:
        node = found.matrices[place]
        rows = node.attributes["N"].as_int() if "N" in node.attributes else node.inputs[1].shape[1]
    return _rows(np.zeros(rows, dtype=np.float32))


def _rows(values: Array) -> _Rows:
    """Return the shape and the parts of an array that is mapped: it is read where it is looked at."""
    step = rows_at_once(math.prod(values.shape[1:]))
    return values.shape, lambda: (values[i : i + step] for i in range(0, len(values), step))


def _below(sources: _Names, values: list[_Rows], data: Path) -> ArtifactWeight:
    shapes = [shape for shape, _ in values]
    rows = sum(shape[0] for shape in shapes)

    def parts() -> Iterator[Array]:
        for part in chain.from_iterable(parts() for _, parts in values):
            yield part
            mapped_pages.release_pages(data)  # onnx_ir maps the file, and a model is looked at as a whole

    return ArtifactWeight(sources=sources, shape=(rows, *shapes[0][1:]), parts=parts)


def _embedding(read: Any) -> Array:
    """Return what is looked up: a matrix of its own, or a tied output matrix, which is turned first."""
    if read.is_initializer():
        return read.const_value.numpy()
    return _initializer_behind(read, "Transpose").const_value.numpy().T


def _initializer_behind(value: Any, op_type: str) -> Any:
    node = value.producer()
    if node is None or node.op_type != op_type or not node.inputs[0].is_initializer():
        raise ValueError(f"the graph computes {value.name}, which is not a weight")
    return node.inputs[0]


def _transposed(node: Any) -> _Rows:
    """Return float32 weights of shape (outputs, inputs) from a DequantizeLinear along the inputs.

    It holds a column for each output; blocks of inputs share a scale, and a zero point where there are any.
    """
    numbers, scales = (v.const_value.numpy() for v in node.inputs[:2])
    zeros = node.inputs[2].const_value.numpy() if len(node.inputs) > 2 and node.inputs[2] is not None else None
    size = node.attributes["block_size"].as_int()
    columns, rows = numbers.shape
    if node.attributes["axis"].as_int() != 0 or -(-columns // size) != len(scales):
        raise ValueError(f"{node.name} has blocks of another shape")

    def parts() -> Iterator[Array]:
        step = min(rows_at_once(columns), rows)
        for first in range(0, rows, step):
            part = np.s_[:, first : first + step]
            values = numbers[part].astype(np.float32)
            if zeros is not None:
                values -= np.repeat(zeros[part].astype(np.float32), size, axis=0)[:columns]
            values *= np.repeat(scales[part].astype(np.float32), size, axis=0)[:columns]
            yield values.T

    return (rows, columns), parts


def dequantized(node: Any, numbers: Any, scales: Any, zeros: Any = None) -> _Rows:
    """Return float32 weights of shape (rows, columns) from blocks of 4 or 8 bits, each with a scale and a zero point.

    Of two neighbours of 4 bits that share a byte, the first is in its lower half. A block without a zero point has the
    middle of the range. The last block of a row is padded.
    """
    bits, size = (node.attributes[name].as_int() for name in ("bits", "block_size"))
    if bits not in (4, 8):
        raise ValueError(f"{node.name} has weights of {bits} bits")
    scale = scales.const_value.numpy()
    rows, blocks = scale.shape
    zero = None if zeros is None else zeros.const_value.numpy().reshape(rows, -1)
    stored = numbers.const_value.numpy().reshape(rows, -1)
    columns = node.attributes["K"].as_int() if "K" in node.attributes else blocks * size

    def unpack(part: slice, values: Array) -> None:
        values[...] = packed.codes(stored[part], bits).reshape(values.shape)
        values -= 1 << (bits - 1) if zero is None else packed.codes(zero[part], bits)[:, :blocks, None]
        values *= scale[part, :, None].astype(np.float32)

    def parts() -> Iterator[Array]:
        step = min(rows_at_once(blocks * size), rows)
        room: Array = np.empty((step, blocks, size), dtype=np.float32)
        for first in range(0, rows, step):
            values = room[: rows - first]
            for few in packed.few_rows(len(values), blocks * size):
                unpack(slice(first + few.start, first + few.stop), values[few])
            yield values.reshape(len(values), -1)[:, :columns]

    return (rows, columns), parts
