"""The shape of a model: what its tensors are, as far as planning needs to know, without their data."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.records.artifacts import Json, Record, Release
from bot.source.safetensors_files import Tensor, check_weights
from bot.source.tensors import read_tensors

_LARGEST_LAYERS = 10_000  # more than any model has; a config may say anything
_LARGEST_VOCABULARY = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Shape(Record):
    """The size of a model.

    ``parameters`` are by dtype, as safetensors names it, and tied weights count once. ``bytes`` is what all tensors
    take, ``largest`` the number of elements of the largest one. ``layers`` and ``vocabulary`` are the config's.
    """

    parameters: dict[str, int]
    bytes: int
    largest: int
    layers: int
    vocabulary: int

    @property
    def count(self) -> int:
        """The number of parameters of all types."""
        return sum(self.parameters.values())


def shape_of(tensors: Mapping[str, Tensor], config: dict[str, Json], *, where: str, layout: str = "") -> Shape:
    """Return the shape of a model from the headers of its weights and its config.json.

    Raises what ``read_tensors``, which says what ``layout`` is, raises for tensors that are not the model's.
    """
    tensors = read_tensors(tensors, config, layout=layout, where=where)
    parameters: Counter[str] = Counter()
    size = largest = 0
    for tensor in tensors.values():
        elements = math.prod(tensor.shape)
        parameters[tensor.dtype] += elements
        size += tensor.end - tensor.begin
        largest = max(largest, elements)
    return Shape(
        parameters=dict(sorted(parameters.items())),
        bytes=size,
        largest=largest,
        layers=_number(config, "num_hidden_layers", _LARGEST_LAYERS),
        vocabulary=_number(config, "vocab_size", _LARGEST_VOCABULARY),
    )


def local_shape(folder: Path, config: dict[str, Json], layout: str = "") -> Shape:
    """Return the shape of a model in a folder. Raises what ``check_weights`` and ``shape_of`` raise."""
    return shape_of(check_weights(folder), config, where=str(folder), layout=layout)


def guessed_shape(release: Release) -> Shape:
    """Return the shape that a release seems to have, by the sizes of its files and its config alone."""
    config = release.config
    hidden, vocabulary = _number(config, "hidden_size", 1 << 20), _number(config, "vocab_size", _LARGEST_VOCABULARY)
    wide = hidden * max(vocabulary, 2 * _number(config, "intermediate_size", 1 << 24))
    parameters = release.parameters
    single = (release.base or release).weight_bytes // max(parameters, 1) == 4
    return Shape(
        parameters={"F32" if single else "BF16": parameters},
        bytes=release.read_bytes,
        largest=min(wide, parameters),
        layers=_number(config, "num_hidden_layers", _LARGEST_LAYERS),
        vocabulary=vocabulary,
    )


def _number(config: dict[str, Json], key: str, most: int) -> int:
    """Return a whole number of a config, at least 1 and at most ``most``: it is a stranger's."""
    value = config.get(key)
    return min(max(value, 1), most) if type(value) is int else 1
