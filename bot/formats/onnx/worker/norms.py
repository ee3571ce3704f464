"""The norms of an ONNX graph: nodes of onnxruntime's, or the elementary nodes that TensorRT for RTX gets instead."""

from dataclasses import dataclass
from typing import Any

Node = Any  # onnx_ir is not installed where mypy runs

# What onnxruntime computes with where a node has no epsilon.
_EPSILONS = {
    "LayerNormalization": 1e-5,
    "SimplifiedLayerNormalization": 1e-5,
    "SkipLayerNormalization": 1e-12,
    "SkipSimplifiedLayerNormalization": 1e-12,
}
_SHAPING = ("axis", "stash_type")  # over the last axis, in float32


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A norm at a ``place`` (``layers.0/input_layernorm``), with its epsilon, and its weight and bias as values.

    ``other`` names the attributes of the node that no Phi has.
    """

    place: str
    epsilon: float
    constants: tuple[Any, ...]
    other: tuple[str, ...] = ()


def norm_of(node: Node) -> Norm | None:
    """Return the norm that a node computes, or whose last step it is: the product with its weight."""
    constants = tuple(v for v in node.inputs if v is not None and v.is_initializer())
    if node.op_type in _EPSILONS:
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        epsilon = attributes.pop("epsilon", _EPSILONS[node.op_type])
        other = tuple(sorted(attributes.keys() - set(_SHAPING)))
        return Norm(place=_place(node), epsilon=epsilon, constants=constants, other=other)
    if node.op_type == "Mul" and len(constants) == 1:
        (scaled,) = (v for v in node.inputs if v is not constants[0])
        epsilon = _epsilon(scaled)
        if epsilon is not None:
            return Norm(place=_place(node), epsilon=epsilon, constants=constants)
    return None


def _place(node: Node) -> str:
    """Return where a node is: its name has the builder's name of the operation after the place, or of several."""
    name = node.name.removeprefix("/").removeprefix("model/")
    for operation in ("/SkipLayerNorm", "/LayerNorm"):
        name = name.partition(f"{operation}/")[0]
    return str(name.removesuffix("/SkipLayerNorm").removesuffix("/LayerNorm"))


def _epsilon(scaled: Any) -> float | None:
    """Return e of x / sqrt(mean(x², over the last axis) + e), where that is how a value is computed; else None.

    x is in float32; what is computed from it may have been cast.
    """
    cast = _producer(scaled, "Cast")
    product = _producer(scaled if cast is None else cast.inputs[0], "Mul")
    if product is None:
        return None
    inverse, states = product.inputs
    root = _under(_producer(inverse, "Div"), 1.0)
    shifted = _producer(_only(_producer(root, "Sqrt")), "Add")
    if shifted is None:
        return None
    mean, epsilon = shifted.inputs
    squares = _producer(_along_last(_producer(mean, "ReduceMean")), "Pow")
    if squares is None or squares.inputs[0] is not states or _number(squares.inputs[1]) != 2:
        return None
    return _number(epsilon)


def _producer(value: Any, op_type: str) -> Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def _under(quotient: Node | None, numerator: float) -> Any:
    """Return what a number is divided by."""
    return quotient.inputs[1] if quotient is not None and _number(quotient.inputs[0]) == numerator else None


def _only(node: Node | None) -> Any:
    return None if node is None else node.inputs[0]


def _along_last(mean: Node | None) -> Any:
    """Return what a mean over the last axis is of, with that axis kept."""
    if mean is None or mean.attributes["keepdims"].as_int() != 1 or _number(mean.inputs[1]) != -1:
        return None
    return mean.inputs[0]


def _number(value: Any) -> float | None:
    """Return a constant of one number; None for anything else."""
    constant = value.const_value
    if constant is None and (node := _producer(value, "Constant")) is not None and "value" in node.attributes:
        constant = node.attributes["value"].as_tensor()
    return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None
