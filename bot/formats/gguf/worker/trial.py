"""Try kernels on the processor at hand, in a process of their own, when the toolchain is installed.

Compilers have made kernels that stop at an illegal instruction, and may make such as compute wrong numbers. So products
of each type are held against the same in float64, with as many states as a prompt has and with one, where the weights
lie as in a file and in each order that the kernels would have them in.
"""

import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from bot.formats.gguf.worker.ggml import Signature, dequantized
from bot.formats.gguf.worker.kernels import ggml

Array = Any  # numpy is not installed where mypy runs

_TYPES = {"F16": 1, "Q4_0": 2, "Q5_0": 6, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
_TYPES |= {"IQ4_NL": 20, "IQ4_XS": 23, "BF16": 30}  # as ggml numbers them
_F32 = 0
_ROWS, _COLUMNS = 256, 1024
_PROMPT, _ONE = 67, 1  # states: of no tile a multiple, and what generating has
_WRONG = 0.02  # of the largest product; states of 8 bits make 0.005
_POINTER, _NUMBER, _SIZE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t


class _InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (("mem_size", _SIZE), ("mem_buffer", _POINTER), ("no_alloc", ctypes.c_bool))


_SIGNATURES: dict[str, Signature] = {
    "ggml_init": (_POINTER, (_InitParams,)),
    "ggml_free": (None, (_POINTER,)),
    "ggml_new_tensor_2d": (_POINTER, (_POINTER, ctypes.c_int, _NUMBER, _NUMBER)),
    "ggml_mul_mat": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_new_graph": (_POINTER, (_POINTER,)),
    "ggml_build_forward_expand": (None, (_POINTER, _POINTER)),
    "ggml_row_size": (_SIZE, (ctypes.c_int, _NUMBER)),
    "ggml_quantize_chunk": (_SIZE, (ctypes.c_int, _POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER)),
    "ggml_backend_load": (_POINTER, (ctypes.c_char_p,)),
    "ggml_backend_reg_dev_get": (_POINTER, (_POINTER, _SIZE)),
    "ggml_backend_reg_get_proc_address": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_backend_dev_init": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_backend_dev_buffer_type": (_POINTER, (_POINTER,)),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, (_POINTER, _POINTER)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_buffer_free": (None, (_POINTER,)),
    "ggml_backend_buffer_set_usage": (None, (_POINTER, ctypes.c_int)),
    "ggml_backend_tensor_set": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_tensor_get": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_graph_compute": (ctypes.c_int, (_POINTER, _POINTER)),
}
_WEIGHTS = 1  # of ggml_backend_buffer_usage


def main(library: str) -> None:
    """Try a library of kernels; end the process with what is wrong, if anything is."""
    loaded = ggml(_SIGNATURES)
    if not (backend := loaded.ggml_backend_load(library.encode())):
        sys.exit("ggml takes them for another processor")
    kernels = _Kernels(loaded, backend)
    wrong = [
        f"{name} with {count} states in buffers {place}: off by {error:.3g} of the largest product"
        for name, kind in _TYPES.items()
        for count in (_PROMPT, _ONE)
        for place, error in kernels.errors(kind, count)
        if not error < _WRONG
    ]
    sys.exit("; ".join(wrong) or 0)


class _Kernels:
    """A backend of ggml, and where it has weights: as they are in a file, and in orders of its own."""

    def __init__(self, library: Any, backend: int) -> None:
        self._ggml = library
        self._device = library.ggml_backend_reg_dev_get(backend, 0)
        self._runs = library.ggml_backend_dev_init(self._device, None)
        self._plain = library.ggml_backend_dev_buffer_type(self._device)
        self._buffers = [self._plain]
        if ask := library.ggml_backend_reg_get_proc_address(backend, b"ggml_backend_dev_get_extra_bufts"):
            others = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), _POINTER)(ask)(self._device)
            i = 0
            while others[i]:
                self._buffers.append(others[i])
                i += 1

    def errors(self, kind: int, count: int) -> Iterator[tuple[int, float]]:
        """Yield by how much products with so many states are off, for each kind of buffer that takes the type."""
        random = np.random.default_rng(kind)
        weights, states = (random.normal(0, 1, (n, _COLUMNS)).astype(np.float32) for n in (_ROWS, count))
        stored = np.empty(_ROWS * self._ggml.ggml_row_size(kind, _COLUMNS), np.uint8)
        self._ggml.ggml_quantize_chunk(kind, weights.ctypes.data, stored.ctypes.data, 0, _ROWS, _COLUMNS, None)
        exact = dequantized(kind, stored, np.empty(weights.size, np.float32)).reshape(weights.shape)
        expected = states.astype(np.float64) @ exact.astype(np.float64).T
        for place, buffers in enumerate(self._buffers):
            found = self._product(buffers, (kind, stored), states)
            if found is not None:
                yield place, float(np.abs(found - expected).max() / np.abs(expected).max())

    def _product(self, buffers: int, stored: tuple[int, Array], states: Array) -> Array | None:
        """Return states times weights, or None where such buffers do not take weights of this type."""
        library, (kind, data), count = self._ggml, stored, len(states)
        fixed, passing = (library.ggml_init(_InitParams(mem_size=1 << 20, no_alloc=True)) for _ in range(2))
        matrix = library.ggml_new_tensor_2d(fixed, kind, _COLUMNS, _ROWS)
        held = [library.ggml_backend_alloc_ctx_tensors_from_buft(fixed, buffers)]
        library.ggml_backend_buffer_set_usage(held[0], _WEIGHTS)
        given = library.ggml_new_tensor_2d(passing, _F32, _COLUMNS, count)
        step = library.ggml_mul_mat(passing, matrix, given)
        found: Array = None
        if library.ggml_backend_dev_supports_op(self._device, step):
            graph = library.ggml_new_graph(passing)
            library.ggml_build_forward_expand(graph, step)
            held.append(library.ggml_backend_alloc_ctx_tensors_from_buft(passing, self._plain))
            found = np.empty((count, _ROWS), np.float32)
            library.ggml_backend_tensor_set(matrix, data.ctypes.data, 0, data.nbytes)
            library.ggml_backend_tensor_set(given, states.ctypes.data, 0, states.nbytes)
            library.ggml_backend_graph_compute(self._runs, graph)
            library.ggml_backend_tensor_get(step, found.ctypes.data, 0, found.nbytes)
        for buffer in held:
            library.ggml_backend_buffer_free(buffer)
        for context in (fixed, passing):
            library.ggml_free(context)
        return found
