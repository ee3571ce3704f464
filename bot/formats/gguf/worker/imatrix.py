"""An importance matrix, and how llama.cpp's quantizer takes it."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.records.artifacts import Json

Array = Any  # numpy is not installed where mypy runs

# Types that llama.cpp makes of hardly any tensor without a matrix: tensor_requires_imatrix in src/llama-quant.cpp.
_NEEDY = {16, 17, 18, 19, 22, 29}  # IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ2_S, IQ1_M
_Q2_K = 10
_EMBEDDINGS = {"token_embd.weight", "per_layer_token_embd.weight"}
_NEVER_NEEDY = {*_EMBEDDINGS, "output.weight"}
_LONGEST = 127  # bytes of a text among llama.cpp's overrides of metadata


@dataclass(frozen=True, kw_only=True)
class ImportanceMatrix:
    """How much each input of a tensor matters: mean squared activations, by the tensor's name in the GGUF file.

    An entry is float32: one number for each input, of one expert after the other. ``file`` and ``dataset`` are what the
    header says of where it comes from, and of the text; ``chunks`` of that text it was made from.
    """

    file: str
    dataset: str
    chunks: int
    entries: Mapping[str, Array]

    def metadata(self) -> Iterator[tuple[str, str | int]]:
        """Return what llama-quantize writes into a file that was made with a matrix, in its order."""
        yield "quantize.imatrix.file", self.file
        if self.dataset:
            yield "quantize.imatrix.dataset", self.dataset
        yield "quantize.imatrix.entries_count", len(self.entries)
        if self.chunks > 0:
            yield "quantize.imatrix.chunks_count", self.chunks

    def digest(self) -> Json:
        """Return what tells this matrix from any other."""
        import hashlib

        total = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            total.update(name.encode() + b"\0" + entry.tobytes())
        return total.hexdigest()


class MissingWeightsError(ValueError):
    """llama.cpp's quantizer refuses a matrix. The message is its own."""


def weights_for(
    matrix: ImportanceMatrix | None, name: str, shape: Sequence[int], kind: int, file_kind: str
) -> Array | None:
    """Return a matrix's entry for a tensor that becomes of a type, or None where it is quantized without.

    Raises MissingWeightsError where llama.cpp would stop.
    """
    if matrix is None:
        return None
    entry = matrix.entries.get(name)
    needed = shape[-1] * (shape[-3] if len(shape) > 2 else 1)
    if entry is not None and entry.size != needed:
        if name not in _EMBEDDINGS:
            said = f"imatrix size {entry.size} is different from tensor size {needed} for {name}"
            raise MissingWeightsError(said)
        entry = None
    needy = kind in _NEEDY or (file_kind == "Q2_K_S" and kind == _Q2_K)
    if entry is None and needy and name not in _NEVER_NEEDY:
        raise MissingWeightsError(f"Missing importance matrix for tensor {name} in a very low-bit quantization")
    return entry


def entries_for(matrix: ImportanceMatrix) -> Any:
    """Return a matrix as ``llama_model_quantize_params.imatrix``."""
    import llama_cpp

    array = (llama_cpp.llama_model_imatrix_data * (len(matrix.entries) + 1))()  # the last one, all zero, ends it
    for place, (name, entry) in zip(array, matrix.entries.items(), strict=False):
        place.name = name.encode()
        place.data = entry.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        place.size = entry.size
    return array


def overrides_for(matrix: ImportanceMatrix) -> Any:
    """Return what a file says of its matrix as ``llama_model_quantize_params.kv_overrides``."""
    import llama_cpp

    said = list(matrix.metadata())
    array = (llama_cpp.llama_model_kv_override * (len(said) + 1))()
    for place, (key, value) in zip(array, said, strict=False):
        place.key = key.encode()
        if isinstance(value, int):
            place.tag, place.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            place.tag, place.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, truncated(value)
    return array


def truncated(text: str) -> bytes:
    """Return as much of a text as llama.cpp takes."""
    return text.encode()[:_LONGEST]
