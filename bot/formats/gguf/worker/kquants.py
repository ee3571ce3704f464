"""ggml's function that quantizes rows, or for k-quants one of our own: the same bytes in a fraction of the time.

When the toolchain is installed, ``bot/formats/gguf/native`` is compiled for each instruction set that its processor
may have (see its __init__.py). Which of them this processor has is found out here, on each start; and so
is whether the library does what ggml does, for nothing that it makes is ever looked at again.
"""

import ctypes
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.gguf.worker import processor
from bot.worker.fast import NotCovered, require_versions

Array = Any  # numpy is not installed where mypy runs

Quantize = Callable[[int, Array, Array | None, Array], None]
"""Quantizes rows to a type: ``quantize(kind, rows, importance, out)``.

``kind`` is a number of ggml_type; ``rows`` float32 of shape (rows, width), ``importance`` float32 of shape (width,) or
None, ``out`` uint8 of as many bytes as those rows take, in any shape; all contiguous. Other threads run meanwhile, and
several may call it at once. Raises ValueError for arrays that do not fit, where ggml would end the process.
"""

_PINNED = {"llama-cpp-python": "0.3.36"}  # whose ggml the lanes were compared with
_VERSION = 1  # of the interface in kquants.c
_KINDS = {10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"}
_POINTER, _NUMBER, _ROWS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t


def quantizer(say: Callable[[str], None], *, libraries: Path | None = None, only: Sequence[str] = ()) -> Quantize:
    """Return the fastest function there is for this processor, and say in one line which and why.

    ``libraries`` is the folder that they are looked for in: the toolchain's, unless it is given. ``only`` leaves of
    them those for some instruction sets.
    """
    try:
        require_versions(_PINNED)
        library = _best(libraries or Path(sys.prefix) / "lib" / "phi-bot", only)
        quantize = _in_lanes(library)
        _compare(quantize)
    except NotCovered as why:
        say(f"k-quants: ggml's own search, because {why}")
        return by_ggml
    say(f"k-quants: {_text(library, 'instructions')} lanes")
    return quantize


def by_ggml(kind: int, rows: Array, importance: Array | None, out: Array) -> None:
    """Quantize with ggml's own function: a Quantize. What its tables need it makes itself, once."""
    _require_fit(kind, rows, importance, out)
    count, width = rows.shape
    _ggml().ggml_quantize_chunk(kind, rows.ctypes.data, out.ctypes.data, 0, count, width, _address(importance))


def _in_lanes(library: Any) -> Quantize:
    run = library.phi_bot_kquants
    run.restype, run.argtypes = ctypes.c_int, (ctypes.c_int, _POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER)
    ggml = ctypes.cast(_ggml().ggml_quantize_chunk, ctypes.c_void_p)

    def quantize(kind: int, rows: Array, importance: Array | None, out: Array) -> None:
        if kind not in _KINDS:
            by_ggml(kind, rows, importance, out)
            return
        _require_fit(kind, rows, importance, out)
        count, width = rows.shape
        run(kind, rows.ctypes.data, out.ctypes.data, count, width, _address(importance), ggml)

    return quantize


# ---- which library -------------------------------------------------------------------------------------------------


def _best(folder: Path, only: Sequence[str]) -> Any:
    """Return the library with the most lanes of those that this processor runs. Raises NotCovered if there is none."""
    files = sorted(folder.glob("kquants-*.so"))
    if not files:
        raise NotCovered("the toolchain was installed without one that is faster")
    found = []
    for file in files:
        # Before it is loaded: a library that is cut short or damaged can end the process.
        if hashlib.sha256(file.read_bytes()).hexdigest() != file.stem.rpartition("-")[2]:
            raise NotCovered(f"{file.name} is damaged")
        library = ctypes.CDLL(str(file))
        if _number(library, "version") != _VERSION:
            raise NotCovered(f"{file.name} was compiled by another version of phi-bot; install the toolchain anew")
        runs = set(_text(library, "processor").split()) <= processor.flags()
        if runs and (not only or _text(library, "instructions") in only):
            found.append(library)
    if not found:
        raise NotCovered("none of the faster ones is for this processor")
    return max(found, key=lambda library: _number(library, "lanes"))


def _number(library: Any, name: str) -> int:
    return int(ctypes.c_int.in_dll(library, f"phi_bot_kquants_{name}").value)


def _text(library: Any, name: str) -> str:
    return ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, f"phi_bot_kquants_{name}"))).decode()


# ---- whether it does what ggml does --------------------------------------------------------------------------------


def _compare(quantize: Quantize) -> None:
    """Raise NotCovered if a function gives another byte than ggml for one of its types. Takes about 20 ms."""
    rows, importance = _examples()
    for kind, name in _KINDS.items():
        for given in (None, importance):
            expected: Array = np.empty((len(rows), _row_size(kind, rows.shape[1])), np.uint8)
            found = np.empty_like(expected)
            by_ggml(kind, rows, given, expected)
            quantize(kind, rows, given, found)
            if not np.array_equal(expected, found):
                how = "without" if given is None else "with"
                raise NotCovered(f"the library gives other bytes for {name} {how} an importance matrix")


def _examples() -> tuple[Array, Array]:
    """Return rows of which some are as weights are and some are not, and an importance of their columns."""
    random = np.random.default_rng(0)
    rows = random.normal(0, 0.02, (39, 512)).astype(np.float32)  # 78 super-blocks: of no number of lanes a multiple
    rows[:4] = random.standard_t(1.5, (4, 512))
    rows[4] *= 10.0 ** random.integers(-45, 9, 512)  # from denormal to large
    rows[5] = np.abs(rows[5])
    rows[6] = -1 - np.abs(rows[6])
    rows[7, ::3] = 0
    rows[8, :300] = 0
    rows[9] = 0.25
    rows[10] *= 1e-40
    rows[11] *= 1e38
    importance = random.normal(0, 1, 512).astype(np.float32) ** 2
    importance[random.random(512) < 0.1] = 0
    return rows, importance


# ---- ggml ----------------------------------------------------------------------------------------------------------


@cache
def _ggml() -> Any:
    import llama_cpp
    from llama_cpp import _ctypes_extensions

    library = _ctypes_extensions.load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
    library.ggml_quantize_chunk.restype = _ROWS
    arguments = (ctypes.c_int, _POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER)
    library.ggml_quantize_chunk.argtypes = arguments
    library.ggml_row_size.restype, library.ggml_row_size.argtypes = _ROWS, (ctypes.c_int, _NUMBER)
    library.ggml_blck_size.restype, library.ggml_blck_size.argtypes = _NUMBER, (ctypes.c_int,)
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
    return library


def _row_size(kind: int, width: int) -> int:
    return int(_ggml().ggml_row_size(kind, width))


def _address(array: Array | None) -> int | None:
    return None if array is None else int(array.ctypes.data)


def _require_fit(kind: int, rows: Array, importance: Array | None, out: Array) -> None:
    """Raise ValueError unless the arrays are of the types and sizes that ggml reads and writes."""
    for array, dtype in ((rows, np.float32), (importance, np.float32), (out, np.uint8)):
        if array is not None and (array.dtype != dtype or not array.flags.c_contiguous):
            raise ValueError(f"an array of {array.dtype} that is not contiguous {np.dtype(dtype)}")
    count, width = rows.shape
    if width % _ggml().ggml_blck_size(kind):
        raise ValueError(f"rows of {width} are not whole blocks of type {kind}")
    if out.nbytes != count * _row_size(kind, width) or not out.flags.writeable:
        raise ValueError(f"{out.nbytes} bytes for {count} rows of {_row_size(kind, width)}")
    if importance is None and _ggml().ggml_quantize_requires_imatrix(kind):
        raise ValueError(f"type {kind} takes an importance matrix")
    if importance is not None and importance.shape != (width,):
        raise ValueError(f"the importance of {importance.shape} columns for rows of {width}")
