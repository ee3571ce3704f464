"""How compressed-tensors quantizes: the scheme of a variant or of an artifact, and what it makes of a matrix's rows."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from bot.records.artifacts import Json, Variant

Tensor = Any  # torch is not installed where mypy runs
Scheme = Any  # nor is compressed-tensors

IGNORED = ("lm_head",)  #: linear modules that stay as they are; so does the embedding, which is not one


@cache
def of_preset(name: str) -> Scheme:
    """Return a scheme that compressed-tensors has a name for: W4A16. Raises KeyError."""
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import preset_name_to_scheme
    from torch.nn import Linear

    scheme = preset_name_to_scheme(name, ["Linear"])
    scheme.format = infer_module_format(Linear, scheme)
    return scheme


def scheme_of(variant: Variant) -> Scheme:
    """Return the scheme of a variant. Raises KeyError for one that compressed-tensors has no preset for."""
    return of_preset(variant.options["scheme"])


def scheme_in(config: Mapping[str, Json]) -> Scheme:
    """Return the scheme that a config.json says its weights are quantized by.

    Raises ValueError, in one line, where it says none, several, or one that compressed-tensors does not know.
    """
    from compressed_tensors.quantization import QuantizationConfig

    said = config.get("quantization_config")
    if not isinstance(said, dict):
        raise ValueError("config.json has no quantization_config")
    try:
        groups = QuantizationConfig.model_validate(said).config_groups
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"quantization_config of config.json is damaged: {' '.join(str(error).split())}") from error
    if len(groups) != 1:
        raise ValueError(f"quantization_config of config.json has {len(groups)} groups of schemes, not one")
    [scheme] = groups.values()
    if scheme.format is None:
        raise ValueError("quantization_config of config.json does not say how its weights are packed")
    return scheme


def config_of(scheme: Scheme) -> dict[str, Json]:
    """Return what config.json says of a scheme under ``quantization_config``, as compressed-tensors writes it."""
    import compressed_tensors
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus

    whole = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=scheme.format,
        ignore=list(IGNORED),
        quantization_status=QuantizationStatus.COMPRESSED,
    )
    said: dict[str, Json] = whole.model_dump(mode="json")
    return {"version": compressed_tensors.__version__, "sparsity_config": {}, "transform_config": {}} | said


def quantizes(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether a tensor of a checkpoint is the weight of a linear module that is quantized."""
    return len(shape) == 2 and ".layers." in name and name.endswith(".weight")


def grid(rows: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Return scales and zero points of rows, by the least and the largest weight of each group or row."""
    from compressed_tensors.quantization.utils import calculate_qparams

    size = scheme.weights.group_size
    groups = rows if size is None else rows.unflatten(-1, (-1, size))
    least, most = groups.amin(-1, keepdim=size is None), groups.amax(-1, keepdim=size is None)
    scales, zeros = calculate_qparams(least, most, scheme.weights)
    return scales, zeros


def compressed(rows: Tensor, scheme: Scheme) -> dict[str, Tensor]:
    """Return what rows of a matrix become, by the last part of its names in the file. Of rows on meta: on meta."""
    import torch

    given = {"weight": rows}
    if rows.is_meta:
        count = 1 if scheme.weights.group_size is None else rows.shape[1] // scheme.weights.group_size
        given["weight_scale"] = torch.empty((len(rows), count), dtype=rows.dtype, device="meta")
    else:
        given["weight_scale"], given["weight_zero_point"] = grid(rows, scheme)
    made: dict[str, Tensor] = _compressor(scheme).compress(given, scheme)
    return made


def decompressed(stored: Mapping[str, Tensor], scheme: Scheme) -> Tensor:
    """Return rows of a matrix in float32, as transformers computes with them in that type."""
    wide = {name: t.float() if name == "weight_scale" else t for name, t in stored.items()}
    return _compressor(scheme).decompress(wide, scheme)["weight"]


def rounded_inputs(inputs: Tensor, scheme: Scheme) -> Tensor:
    """Return inputs of a matrix, of shape (1, tokens, columns), as they are rounded when they are multiplied."""
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    args = scheme.input_activations
    scales, zeros = compute_dynamic_scales_and_zp(inputs, args, None)
    return fake_quantize(inputs, scales, zeros, args)


def _compressor(scheme: Scheme) -> Any:
    from compressed_tensors.compressors import BaseCompressor

    return BaseCompressor.get_value_from_registry(
        scheme.format.value if hasattr(scheme.format, "value") else scheme.format
    )
