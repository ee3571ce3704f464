"""Making a graph without its weights: the builder's own code runs, on tensors that only say where their values lie.

Six functions of the builder are replaced while it runs, because they read or allocate weights: the one that loads the
checkpoint, the one that joins q, k and v, two that make linear layers to throw away, the one that registers an
initializer, and the one that quantizes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import onnx_ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype
from transformers import AutoConfig, AutoModelForCausalLM

from bot.formats.onnx.worker.addresses import DTYPES, Addresses
from bot.formats.onnx.worker.calibrated import Levels
from bot.formats.onnx.worker.mix import Matrix, TypesByMixer
from bot.formats.onnx.worker.quantizers import Quantizer, default, k_quant
from bot.formats.onnx.worker.recipes import Cast, InitializerRecipe, Promised, Quantized
from bot.worker.fast import NotCovered
from bot.worker.mapped import Mapped

Tensor = Any  # neither torch nor onnx_ir is installed where mypy runs

_EMBEDDING = "model.embed_tokens.weight"

ARCHITECTURES = ("PhiForCausalLM", "Phi3ForCausalLM")  #: whose weights the builder only slices, joins and transposes


@contextmanager
def without_weights(mapped: Mapped, types: TypesByMixer | None = None) -> Iterator[None]:
    """Let the builder make graphs whose large initializers are Promised. The functions it had are given back.

    ``types`` decides what becomes of each matrix, where that is not the builder's own choice.
    """
    from onnxruntime_genai.models.builder import Model

    replaced = {name: getattr(Model, name) for name in _REPLACEMENTS}
    try:
        for name, replacement in _REPLACEMENTS.items():
            setattr(Model, name, replacement(replaced[name]))
        Model.phi_bot_mapped, Model.phi_bot_types = mapped, types
        yield
    finally:
        for name, own in replaced.items():
            setattr(Model, name, own)
        del Model.phi_bot_mapped, Model.phi_bot_types


def _load_weights(_: Callable[..., Any]) -> Callable[..., Any]:
    def load_weights(self: Any, source: str) -> Any:
        """Return transformers' model with the checkpoint's tensors as its parameters, of which matrices are empty."""
        if self.quant_type is not None:
            raise NotCovered("the checkpoint is quantized already")
        config, mapped = AutoConfig.from_pretrained(source), self.phi_bot_mapped
        self.phi_bot_addresses = addresses = Addresses(mapped, _loaded_dtype(config, mapped))
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        absent, unknown = model.load_state_dict(
            {n: addresses.tensor(n) for n in mapped.stored}, strict=False, assign=True
        )
        if unknown or set(absent) != set(model.all_tied_weights_keys):
            raise NotCovered("its tensors are not those that transformers has for this architecture")
        model.tie_weights()
        return model.eval()

    return load_weights


def _loaded_dtype(config: Any, mapped: Mapped) -> Any:
    """Return the type that transformers would load the weights in: what the config says, else what they have."""
    if config.dtype is not None:
        return config.dtype
    types = {stored.dtype for stored in mapped.stored.values()}
    if len(types) != 1:
        raise NotCovered("its weights have several types, and the config names none")
    return DTYPES[types.pop()]


def _joined(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def make_packed_matmul_float_class(self: Any, q: Any, k: Any, v: Any, **_: Any) -> Any:
        joined = torch.nn.Module()
        joined.weight = self.phi_bot_addresses.stack([q.weight, k.weight, v.weight])
        return joined

    return make_packed_matmul_float_class


def _allocating_nothing(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def unpacked(*arguments: Any, **options: Any) -> Any:
        with torch.device("meta"):  # linear layers whose random weights are replaced in the next line
            return own(*arguments, **options)

    return unpacked


def _registering(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def make_initializer(self: Any, tensor: Any, /, name: str, *, to: Any = None, raw: bool = False) -> None:
        if not (isinstance(tensor, torch.Tensor) and tensor.is_meta):
            own(self, tensor, name, to=to, raw=raw)
            return
        if to is None or raw:
            raise NotCovered(f"{name} is stored in another way")
        matrix, transposed = self.phi_bot_addresses.matrix(tensor)
        recipe = Cast(matrix=matrix, dtype=to_torch_dtype(to), transposed=transposed)
        value = self.make_value(name, to, onnx_ir.Shape(tensor.shape))
        value.const_value = Promised(recipe, 0, to, tensor.shape, name)
        self.model.graph.register_initializer(value)

    return make_initializer


def _quantizing(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def to_nbits(self: Any) -> Any:
        """Let the builder rewrite its graph with single weights in place of matrices, then put their shapes right.

        So the rewriting is its own in every detail, and there is next to nothing to quantize.
        """
        method = _method(self)
        promised: dict[str, Promised] = {}
        for name, value in self.model.graph.initializers.items():
            if isinstance(value.const_value, Promised):
                promised[name] = value.const_value
                one = torch.ones(1, 1, dtype=value.const_value.recipe.dtype)
                value.const_value = onnx_ir.tensor(one.numpy(), name=name)
        weights = {n.name: n.inputs[1].name for n in self.model.graph if n.op_type == "MatMul"}
        model = own(self)
        shared = any(node.op_type == "GatherBlockQuantized" for node in model.graph)
        quantized = []
        for node in model.graph:
            if node.op_type == "MatMulNBits":
                bits = node.attributes["bits"].as_int()
                weight = promised.pop(weights[node.name.removesuffix(f"_Q{bits}")])
                quantized.append((node, weight.recipe, *method(bits)))
        chosen = _chosen(self.phi_bot_types, quantized, shared=shared)
        for node, recipe, quantizer, levels in quantized:
            name = recipe.matrix.names[0]
            kind = chosen.get(name, levels)
            if kind == levels:
                _promise(node, recipe, quantizer, levels, shared=shared)
                continue
            _retype([node, *(_look_ups(model) if name == _EMBEDDING else ())], kind)
            _promise(node, recipe, default(kind.bits, kind.block, symmetric=True), kind, shared=shared)
        for name, weight in promised.items():
            if name not in model.graph.initializers:
                raise NotCovered(f"it quantizes {name} in another way")
            value = model.graph.initializers[name]
            value.shape = weight.shape
            value.const_value = weight
        return model

    return to_nbits


def _chosen(
    types: TypesByMixer | None, quantized: Sequence[tuple[Any, InitializerRecipe, Quantizer, Levels]], *, shared: bool
) -> dict[str, Levels]:
    """Return the types that are chosen, by the names of matrices. One may be in several nodes, which share its type."""
    if types is None:
        return {}
    rows: dict[str, int] = {}
    joined: set[str] = set()  # several matrices in one node have its type, whatever each of them costs
    for _, weight, _, _ in quantized:
        name, *others = weight.matrix.names
        joined.update((name, *others) if others else ())
        rows[name] = rows.get(name, 0) + weight.matrix.rows
    return types.decide(
        {
            weight.matrix.names[0]: Matrix(
                rows=rows[weight.matrix.names[0]],
                columns=weight.matrix.columns,
                own=levels,
                scales=torch.empty(0, dtype=weight.dtype).numpy().dtype,
                looked_up=shared and weight.matrix.names == (_EMBEDDING,),
            )
            for _, weight, _, levels in quantized
            if weight.matrix.names[0] not in joined
        }
    )


def _retype(nodes: Sequence[Any], levels: Levels) -> None:
    """Let nodes of one matrix say that it has another type. They keep the names that the builder gave them."""
    for node in nodes:
        for key, value in (("bits", levels.bits), ("block_size", levels.block)):
            node.attributes[key] = onnx_ir.AttrInt64(key, value)


def _look_ups(model: Any) -> list[Any]:
    return [node for node in model.graph if node.op_type == "GatherBlockQuantized"]


def _promise(node: Any, weight: InitializerRecipe, quantizer: Quantizer, levels: Levels, *, shared: bool) -> None:
    """Give a quantized node the sizes of its true weight, and initializers that are still to be made.

    ``shared`` says that the embedding is looked up in the output matrix of a node.
    """
    recipe = Quantized(
        matrix=weight.matrix,
        dtype=weight.dtype,
        quantizer=quantizer,
        levels=levels,
        beside_embedding=weight.matrix.names == (_EMBEDDING,) and not shared,
    )
    for key, size in (("K", weight.matrix.columns), ("N", weight.matrix.rows)):
        node.attributes[key] = onnx_ir.AttrInt64(key, size)
    shapes = recipe.shapes()
    values = [v for v in node.inputs[1:] if v is not None]
    if len(values) != len(shapes):
        raise NotCovered(f"{node.name} has inputs of another number")
    for part, (value, (shape, dtype)) in enumerate(zip(values, shapes, strict=True)):
        value.shape = onnx_ir.Shape(shape)
        value.const_value = Promised(recipe, part, onnx_ir.DataType.from_numpy(dtype), shape, value.name)


def _method(model: Any) -> Callable[[int], tuple[Quantizer, Levels]]:
    """Return what gives quantizer and levels for a number of bits. Raises NotCovered for methods that are not ours."""
    attributes = model.quant_attrs
    block, symmetric = attributes["matmul_block_size"], attributes["is_symmetric"]
    if attributes["use_qdq"] or "MatMul" not in attributes["op_types_to_quantize"]:
        raise NotCovered("it quantizes into other nodes than MatMulNBits")
    if model.matmul_attrs["weights_prepacked"]:
        raise NotCovered("it packs weights for one kind of GPU")
    if model.io_dtype == onnx_ir.DataType.BFLOAT16:
        raise NotCovered("its scales are in bfloat16")
    if model.quantization_algo == "default":
        return lambda bits: (
            default(bits, block, symmetric=symmetric),
            Levels(bits=bits, block=block, zero_points=not symmetric),
        )
    if model.quantization_algo == "k_quant":
        return lambda bits: (k_quant(bits, block), Levels(bits=bits, block=block, zero_points=True))
    if model.quantization_algo == "rtn":
        raise NotCovered("it quantizes with rtn")
    model.make_algo_config(model.quantization_algo)  # raises, and says why
    raise NotCovered(f"it quantizes with {model.quantization_algo}")


_REPLACEMENTS: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "load_weights": _load_weights,
    "make_packed_matmul_float_class": _joined,
    "make_mlp_unpacked_regular": _allocating_nothing,
    "make_attention_unpacked_regular": _allocating_nothing,
    "make_initializer": _registering,
    "to_nbits": _quantizing,
}
