"""The weights inside an OpenVINO model, as OpenVINO computes with them, by the names they have in the source."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.openvino.worker import unpacking
from bot.formats.openvino.worker.runtime import send_nothing
from bot.records.tasks import VerifyTask
from bot.worker import mapped_pages
from bot.worker.order import model_order
from bot.worker.rounding import Arithmetic, Rounding, eight_bits
from bot.worker.tensors import Tensors
from bot.worker.weights import ArtifactWeight, rows_at_once

Array = Any  # numpy is not installed where mypy runs

_UNPACKING = {"Convert", "Subtract", "Multiply", "Reshape"}  # types, zero points, scales and groups
_MATRIX_INPUT = {"Gather": 0, "MatMul": 1}
_VECTOR = {"Multiply": "weight", "Add": "bias"}  # of a norm, and of a norm or a matrix
_GROUP = 32  # weights that share a scale at least
# Options that leave each weight the nearest level, but those that are held against what they were solved to.
_PLAIN = {"weight_format", "group_size", "ratio", "sym", "quality", "types"}
_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_EXPERTS = {"MatMul": "w1", "MatMul_1": "w3", "MatMul_2": "w2"}  # gate, up and down, in the order of the export


def stored(task: VerifyTask) -> Iterator[ArtifactWeight]:
    """Yield every tensor of the source as the artifact has it, unpacked as OpenVINO's CPU plugin does it.

    A tensor is named by the operation that computes with it: the constants of norms have no names of their own.
    """
    send_nothing()
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": task.threads})
    source = Tensors(Path(task.source))
    nearest = _GROUP if task.variant.options.keys() <= _PLAIN else 0
    model, data = (Path(task.artifact) / f"openvino_model.{kind}" for kind in ("xml", "bin"))
    used = list(_used(core.read_model(model), source.names()))
    embedding = [value for name, value in used if name == _EMBEDDING]
    for name, value in sorted([*used, *_left_out(source, used)], key=lambda use: model_order(use[0])):
        if value is None:
            neutral = 1.0 if name.endswith(".weight") else 0.0
            yield ArtifactWeight.whole(name, np.full(source.shape(name), neutral, dtype=np.float32))
            continue
        output = name == _OUTPUT and name not in source.names()  # the source ties it to the embedding
        if output and _same(value, embedding):
            continue
        shape, rounding = tuple(value.get_shape()), _rounding(value)
        rows = unpacking.reader(value) or _reader(core, value)
        if "{}" in name:
            experts = [name.format(n) for n in range(shape[0])]
            yield from (ArtifactWeight.whole(e, rows(n, n + 1)[0], nearest, rounding) for n, e in enumerate(experts))
        elif shape[0] == 1:  # of a norm, to multiply with
            yield ArtifactWeight.whole(name, rows(0, 1).reshape(-1))
        else:
            yield ArtifactWeight(
                sources=(_EMBEDDING if output else name,),
                shape=shape,
                parts=partial(_parts, rows, shape[0], rows_at_once(prod(shape[1:])), data),
                nearest=nearest,
                rounding=rounding,
                output=output,
            )
        del rows  # with what OpenVINO made of the tensor


def arithmetic(_: VerifyTask) -> Arithmetic:
    """Return what OpenVINO rounds on a CPU in float32: what is multiplied with compressed weights."""
    return Arithmetic(products=True)


def _parts(rows: Callable[[int, int], Array], count: int, step: int, data: Path) -> Iterator[Array]:
    for start in range(0, count, step):
        yield rows(start, start + step)
        mapped_pages.release_pages(data)  # OpenVINO maps the file, and a model is looked at as a whole


def _used(model: Any, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield what a model computes with: the name of a tensor, and the output of the operation that unpacks it.

    The name of stacked experts has ``{}`` where the number of the expert stands.
    """
    constant, seen = set(), set()
    for node in model.get_ordered_ops():
        kind, inputs = node.get_type_name(), node.input_values()
        fixed = [value.get_node().get_name() in constant for value in inputs]
        if kind == "Constant" or (kind in _UNPACKING and all(fixed)):
            constant.add(node.get_name())
            continue
        for number, value in enumerate(inputs):
            name = _name(node, number, value) if fixed[number] else None
            if name is None or (kind in _VECTOR and name not in names):
                continue
            use = name, value.get_node().get_name()
            if use not in seen:
                seen.add(use)
                yield name, value


def _name(node: Any, number: int, value: Any) -> str | None:
    """Return the name of the tensor that an operation takes as an input, or None if that is none of the model's."""
    kind, path, shape = node.get_type_name(), node.get_friendly_name().split("/"), value.get_shape()
    module = path[0].removeprefix("__module.")
    if kind in _VECTOR and prod(shape) == max(shape, default=0) > 1:
        return f"{module}.{_VECTOR[kind]}"
    if _MATRIX_INPUT.get(kind) != number:
        return None
    if module.endswith(".mlp.experts") and path[-1] in _EXPERTS:  # checkpoints have another name than transformers
        return f"{module.removesuffix('.mlp.experts')}.block_sparse_moe.experts.{{}}.{_EXPERTS[path[-1]]}.weight"
    module = module.replace(".mlp.router", ".block_sparse_moe.gate")
    return f"{module}.weight" if len(shape) == 2 else None


def _reader(core: Any, value: Any) -> Callable[[int, int], Array]:
    """Return what reads the entries ``start`` to ``stop`` of a tensor's first axis, as float32, and stops at its end.

    They are gathered as the rows of an embedding are, which unpacks no others.
    """
    import openvino
    from openvino import opset13 as ops

    wanted = ops.parameter([-1], openvino.Type.i64)
    gathered = ops.convert(ops.gather(value, wanted, ops.constant(0)), openvino.Type.f32)
    compiled = core.compile_model(openvino.Model([ops.result(gathered)], [wanted]), "CPU")
    count = value.get_shape()[0]
    return lambda start, stop: compiled([np.arange(start, min(stop, count))])[0]


def _rounding(value: Any) -> Rounding | None:
    """Return how a product rounds its states: where it has to unpack its weights, to 8 bits by groups of 32.

    The CPU plugin calls that dynamic quantization, and has it on by itself:
    https://docs.openvino.ai/2025/openvino-workflow-generative/inference-with-genai.html
    """
    kind, node = "", value.get_node()
    while kind != "Multiply" and node.get_type_name() in _UNPACKING:
        kind, node = node.get_type_name(), node.input_value(0).get_node()
    return eight_bits(_GROUP) if kind == "Multiply" else None


def _same(value: Any, others: Iterable[Any]) -> bool:
    return value.get_node().get_name() in {other.get_node().get_name() for other in others}


def _left_out(source: Tensors, used: Iterable[tuple[str, Any]]) -> list[tuple[str, None]]:
    """Return the norms that multiply by one, and the biases that add nothing: an export leaves those out."""
    vectors = {n for n in source.names() if len(source.shape(n)) == 1 and n.endswith((".weight", ".bias"))}
    return [(name, None) for name in vectors - {name for name, _ in used}]
