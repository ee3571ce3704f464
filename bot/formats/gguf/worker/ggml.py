"""The few functions of ggml itself that making a file without llama_model_quantize takes.

llama-cpp-python brings the library, and declares none of them.
"""

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Array = Any  # numpy is not installed where mypy runs
Signature = tuple[Any, tuple[Any, ...]]  #: the result of a function of C, and its arguments

F32, F16, BF16 = 0, 1, 30  #: numbers of ggml_type
NUMPY = {F32: np.dtype("<f4"), F16: np.dtype("<f2"), BF16: np.dtype("<u2")}  #: how we hold rows of these types

_POINTER, _TEXT, _NUMBER = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64


class _InitParams(ctypes.Structure):
    """gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


class _TypeTraits(ctypes.Structure):
    """ggml_type_traits, as far as it is read."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _NUMBER)),
    )


_SIGNATURES: dict[str, Signature] = {
    "ggml_row_size": (ctypes.c_size_t, (ctypes.c_int, _NUMBER)),
    "ggml_get_type_traits": (ctypes.POINTER(_TypeTraits), (ctypes.c_int,)),
    "ggml_bf16_to_fp32_row": (None, (_POINTER, _POINTER, _NUMBER)),
    "ggml_fp16_to_fp32_row": (None, (_POINTER, _POINTER, _NUMBER)),
    "ggml_validate_row_data": (ctypes.c_bool, (ctypes.c_int, _POINTER, ctypes.c_size_t)),
    "ggml_get_tensor": (_POINTER, (_POINTER, _TEXT)),
    "ggml_free": (None, (_POINTER,)),
    "gguf_init_empty": (_POINTER, ()),
    "gguf_init_from_file": (_POINTER, (_TEXT, _InitParams)),
    "gguf_free": (None, (_POINTER,)),
    "gguf_set_kv": (None, (_POINTER, _POINTER)),
    "gguf_set_val_u32": (None, (_POINTER, _TEXT, ctypes.c_uint32)),
    "gguf_set_val_str": (None, (_POINTER, _TEXT, _TEXT)),
    "gguf_add_tensor": (None, (_POINTER, _POINTER)),
    "gguf_set_tensor_type": (None, (_POINTER, _TEXT, ctypes.c_int)),
    "gguf_get_tensor_offset": (ctypes.c_size_t, (_POINTER, _NUMBER)),
    "gguf_get_tensor_size": (ctypes.c_size_t, (_POINTER, _NUMBER)),
    "gguf_get_meta_size": (ctypes.c_size_t, (_POINTER,)),
    "gguf_get_meta_data": (None, (_POINTER, _POINTER)),
}


@cache
def library() -> Any:
    """Return ggml's library. Its functions let other threads run while they work."""
    import llama_cpp
    from llama_cpp import _ctypes_extensions

    folder = Path(llama_cpp.__file__).parent / "lib"
    return declared(_ctypes_extensions.load_shared_library("ggml-base", folder), _SIGNATURES)


def declared(loaded: Any, signatures: Mapping[str, Signature]) -> Any:
    """Return a library with some functions declared: each with its result and its arguments."""
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def row_size(kind: int, width: int) -> int:
    """Return the bytes of a row of so many weights."""
    return int(library().ggml_row_size(kind, width))


def valid(kind: int, rows: Array) -> bool:
    """Say whether ggml takes the data of rows: no NaN and no infinity, nor a scale that is one."""
    return bool(library().ggml_validate_row_data(kind, rows.ctypes.data, rows.nbytes))


def widened(kind: int, rows: Array) -> Array:
    """Return rows of F32, F16 or BF16 as float32, as llama_model_quantize does. Rows of F32 are not copied."""
    if kind == F32:
        return rows
    widen = library().ggml_bf16_to_fp32_row if kind == BF16 else library().ggml_fp16_to_fp32_row
    wide = np.empty(rows.shape, np.float32)
    widen(rows.ctypes.data, wide.ctypes.data, rows.size)
    return wide


def dequantized(kind: int, packed: Array, values: Array) -> Array:
    """Unpack weights of a type into an array of float32, from the bytes of their whole blocks, as llama.cpp does it."""
    if kind == F32:
        return packed.view(np.float32)
    library().ggml_get_type_traits(kind).contents.to_float(packed.ctypes.data, values.ctypes.data, len(values))
    return values


def open_header(file: Path) -> tuple[int, int]:
    """Return a GGUF file's header: its gguf_context and its ggml_context, both of them to be freed."""
    tensors = ctypes.c_void_p()
    header = library().gguf_init_from_file(str(file).encode(), _InitParams(no_alloc=True, ctx=ctypes.pointer(tensors)))
    if not header or not tensors.value:
        raise ValueError(f"ggml cannot read {file.name}")
    return header, tensors.value
