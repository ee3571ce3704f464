"""The call of llama.cpp's quantizer, ``llama_model_quantize``."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from bot.formats.gguf.worker.imatrix import ImportanceMatrix, entries_for, overrides_for
from bot.formats.gguf.worker.llama import Log

_BUFFER = 128 << 20  # bytes; the rows of a tensor that are worked on at once
_NO_REASON = "llama.cpp's quantizer failed without a message"


def quantize(
    base: Path,
    out: Path | None,
    kind: str,
    *,
    threads: int,
    each: Callable[[str], None],
    matrix: ImportanceMatrix | None = None,
) -> str | None:
    """Quantize one GGUF file to another; return None, or why the quantizer refused.

    ``each`` gets what it says, piece by piece. Without an ``out`` it is a dry run, which reads the header of ``base``
    alone and writes nothing.
    """
    import llama_cpp

    log = Log(each)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type(kind)
    params.nthread = threads
    params.max_buf_size = _BUFFER
    params.dry_run = out is None
    if matrix is not None:
        params.imatrix = entries_for(matrix)
        params.kv_overrides = overrides_for(matrix)
    failed = llama_cpp.llama_model_quantize(str(base).encode(), str(out or base).encode(), ctypes.byref(params))
    return (log.errors or [_NO_REASON])[-1].removeprefix("failed to quantize: ") if failed else None


def file_type(kind: str) -> int:
    """Return llama.cpp's number of a type of file: 15 for ``Q4_K_M``."""
    import llama_cpp

    return int(getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}"))
