"""nncf's compression, put off: first it decides what becomes of each weight; its kernels run as the file is written.

Both parts are nncf's own code. What is computed of a row depends on that row alone, so a matrix may come in parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

import numpy as np
import openvino as ov
import torch
from nncf.openvino.optimized_functions import models
from nncf.parameters import CompressWeightsMode
from nncf.quantization.algorithms.weight_compression import openvino_backend, weight_lowering
from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
from nncf.quantization.algorithms.weight_compression.parameters import CompressedWeight
from nncf.tensor import Tensor
from openvino import opset13 as opset

from bot.formats.openvino.worker import calibrated, mix
from bot.formats.openvino.worker.plan import Part
from bot.formats.openvino.worker.replaced import patched_attribute
from bot.formats.openvino.worker.standins import StandIns
from bot.records.artifacts import Json
from bot.worker.calibrated import SolverAtWork
from bot.worker.fast import NotCovered
from bot.worker.mixing import Mix, Mixer

_INFER = models._infer_ov_model  # noqa: SLF001 - all kernels are run by it
_SCALE = ov.Type.f16  # as nncf stores the scales of integers


@dataclass(eq=False, kw_only=True)
class NncfCompression:
    """nncf's treatment of a weight. ``shape`` is the weight's; the ``axes`` are those that share a scale.

    A ``solver`` rounds it instead, to the same groups, where it knows them and what the weight is multiplied with.
    """

    weight: str
    shape: tuple[int, ...]
    type: Any  # of the numbers, as OpenVINO names it
    axes: tuple[int, ...]
    config: Any
    solver: SolverAtWork | None = None
    kept: dict[str, list[bytes]] = field(default_factory=dict)  # computed with the weights, and due after them

    @classmethod
    def from_json(cls, value: Json, solver: SolverAtWork | None = None) -> Self:
        """Read what ``to_json`` wrote."""
        config = WeightCompressionConfig(mode=CompressWeightsMode(value["mode"]), group_size=value["group_size"])
        shape, axes = tuple(value["shape"]), tuple(value["axes"])
        numbers = getattr(ov.Type, value["type"])
        fits = axes == (1,) and calibrated.fits(shape, value["mode"], value["group_size"])
        if solver is not None and not (fits and value["weight"] in solver.known):
            solver = None
        return cls(weight=value["weight"], shape=shape, type=numbers, axes=axes, config=config, solver=solver)

    def to_json(self) -> Json:
        """Return all but what is ``kept``. Of integers the config says no more than their kind and groups."""
        return {
            "weight": self.weight,
            "shape": list(self.shape),
            "type": self.type.get_type_name(),
            "axes": list(self.axes),
            "mode": self.config.mode.value,
            "group_size": self.config.group_size,
        }

    @property
    def loaded(self) -> str:
        """The type of the weight's numbers, as torch names it."""
        return {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[self.type.get_type_name()]

    def begin(self) -> None:
        """Begin with the first rows."""
        self.kept.clear()
        if self.solver is not None:
            self.solver.forget(self.weight)

    def run(self, rows: Any) -> bytes:
        """Compress rows of the weight, from their bytes; keep their scales and zero points, and return the rest."""
        if self.solver is not None:
            return self._solve(self.solver, rows)
        count = rows.nbytes // (prod(self.shape[1:]) * self.type.size)
        tensor = Tensor(ov.Tensor(rows, ov.Shape([count, *self.shape[1:]]), self.type))
        with patched_attribute(models, "_infer_ov_model", _infer):
            found = weight_lowering.compress_weight(tensor, self.axes, self.config)
        stored = openvino_backend.DTYPE_MAP[self.config.compression_dtype]
        self.kept.setdefault("scale", []).append(_bytes(found.scale, _SCALE))
        if found.zero_point is not None:
            self.kept.setdefault("zero_point", []).append(_bytes(found.zero_point, stored))
        return _bytes(found.tensor, stored)

    def end(self) -> None:
        """Say that these were all rows."""
        if self.solver is not None:
            self.solver.finish(self.weight)

    def _solve(self, solver: SolverAtWork, rows: Any) -> bytes:
        numbers = torch.from_numpy(rows).view(getattr(torch, self.loaded)).view(-1, self.shape[1]).float().numpy()
        mode = self.config.mode.value
        found, rounded = solver.solve(self.weight, numbers, calibrated.grid(mode, self.config.group_size))
        solver.take(rounded)
        made = calibrated.parts(found, mode)
        for what in made.keys() - {"weight"}:
            self.kept.setdefault(what, []).append(made[what])
        return made["weight"]


@dataclass(frozen=True, kw_only=True)
class _Promised:
    """Stands for a tensor of nncf's until it becomes a constant."""

    part: Part
    shape: tuple[int, ...]


def _infer(params: Any, compiled: Any, inputs: Any) -> Any:
    """Run a kernel, and let it keep its buffers for the next rows: giving them back took a sixth of its time."""
    params.release_memory = False
    return _INFER(params, compiled, inputs)


def _bytes(tensor: Any, stored: Any) -> bytes:
    data: bytes = openvino_backend.create_ov_const_from_tensor(tensor, stored).data.tobytes()
    return data


@dataclass(kw_only=True)
class TypesByMixer:
    """Gives matrices the types that a ``mixer`` chooses, in the place of those that nncf gives them."""

    mixer: Mixer
    mix: Mix | None = None

    def decide(self, given: Mapping[str, Any]) -> None:
        """Change what nncf will do with each weight of the source: its WeightCompressionParameters, by its name."""
        own = {
            name: mix.name_of(p.compression_config.mode.value, p.compression_config.group_size)
            for name, p in given.items()
        }
        types = {name: mix.types(tuple(p.weight_shape)) for name, p in given.items() if tuple(p.reduction_axes) == (1,)}
        self.mix = self.mixer.choose(types, own)
        for name, kind in self.mix.kinds.items() if self.mix is not None else ():
            mode, group = mix.parted(kind)
            config = WeightCompressionConfig(mode=CompressWeightsMode(mode), group_size=group)
            given[name].compression_config = config


@contextmanager
def recorded(standins: StandIns, types: TypesByMixer | None = None) -> Iterator[dict[str, Part]]:
    """Let nncf compress a model whose weights are stand-ins; yield what each constant stands for, by its name.

    ``types`` decides what becomes of each weight, where that is not nncf's own choice.
    """
    parts: dict[str, Part] = {}
    compress, create = openvino_backend.compress_weight, openvino_backend.create_ov_const_from_tensor

    def record(weight: Any, axes: Any, config: Any, precomputed: Any = None) -> Any:
        data = weight.data.data
        name = standins.name_at(data.ctypes.data, data.nbytes)
        if name is None:
            return compress(weight, axes, config, precomputed)
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        # 3 bits and fewer are stored in a way of their own, floats get a codebook: neither is among our variants.
        if not config.is_integer or config.num_bits not in (4, 8) or precomputed is not None or 0 in axes:
            raise NotCovered(f"weights are compressed as {config.mode.value}")
        # The kernel is made and not run: making it takes numbers that OpenVINO counts up to name its nodes by, and the
        # stock tool makes it here.
        with patched_attribute(models, "_infer_ov_model", lambda *given: _outputs(standins, *given)):
            found = compress(weight, axes, config)
        shape, numbers = tuple(weight.shape), weight.data.get_element_type()
        job = NncfCompression(weight=name, shape=shape, type=numbers, axes=axes, config=config)
        promised = {
            what: _Promised(part=Part(of=job, what=what), shape=tuple(tensor.shape))
            for what, tensor in (("weight", found.tensor), ("scale", found.scale), ("zero_point", found.zero_point))
            if tensor is not None
        }
        return CompressedWeight(promised["weight"], promised["scale"], promised.get("zero_point"))

    def const(x: Any, dtype: Any, name: str | None = None) -> Any:
        if not isinstance(x, _Promised):
            return create(x, dtype, name)
        assert name is not None  # noqa: S101 - nncf names all that it makes of weights
        parts[name] = x.part
        return opset.constant(_blank(standins, dtype, x.shape), name=name, shared_memory=True)

    backend = openvino_backend.OVWeightCompressionAlgoBackend
    transform = backend.transform_model

    def transform_with(self: Any, model: Any, graph: Any, given: Iterable[Any], *rest: Any, **options: Any) -> Any:
        weights = list(given)
        if types is not None:
            types.decide({name: w for w in weights if (name := _weight_of(self, w, standins)) is not None})
        return transform(self, model, graph, weights, *rest, **options)

    with ExitStack() as stack:
        if types is not None:
            stack.enter_context(patched_attribute(backend, "transform_model", transform_with))
        stack.enter_context(patched_attribute(openvino_backend, "compress_weight", record))
        stack.enter_context(patched_attribute(openvino_backend, "create_ov_const_from_tensor", const))
        yield parts


def _weight_of(backend: Any, given: Any, standins: StandIns) -> str | None:
    """Return which weight of the source nncf's parameters are of, or None."""
    attributes = given.node_with_weight.layer_attributes.constant_attributes[given.weight_port_id]
    node = backend.name_to_node_mapping[attributes["name"]]
    return standins.name_at(node.data.ctypes.data, node.get_byte_size())


def _outputs(standins: StandIns, params: Any, compiled: Any, inputs: Any) -> list[Any]:
    """Return stand-ins for what a kernel gives: as many numbers as come in, but 1 along the axes that it reduces."""
    (weight,) = inputs
    outputs = []
    for output in compiled.outputs:
        given = zip(output.get_partial_shape(), weight.shape, strict=True)
        shape = tuple(d.get_length() if d.is_static else size for d, size in given)
        outputs.append(_blank(standins, output.get_element_type(), shape))
    return [Tensor(o if params.return_ov_tensors else o.data) for o in outputs]


def _blank(standins: StandIns, numbers: Any, shape: tuple[int, ...]) -> Any:
    size = (prod(shape) * numbers.bitwidth + 7) // 8
    return ov.Tensor(np.frombuffer(standins.blank(size), np.uint8), ov.Shape(shape), numbers)
