"""The kernels that llama.cpp computes with: the best of those that the toolchain has for this processor.

llama.cpp brings those of one level of processor, which every machine has that the toolchain may move to. Libraries for
higher ones are compiled beside it when it is installed (bot/formats/gguf/native/kernels.py). Only verifying takes them:
what an importance matrix is measured with decides bytes of files, and so is the same everywhere.
"""

import ctypes
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import Any

from bot.formats.gguf.worker.ggml import Signature, declared
from bot.formats.gguf.worker.processor import flags

FOLDER = Path(sys.prefix) / "lib" / "phi-bot"  #: of what was compiled beside the toolchain

_POINTER, _TEXT = ctypes.c_void_p, ctypes.c_char_p
_SIGNATURES: dict[str, Signature] = {
    "ggml_backend_reg_by_name": (_POINTER, (_TEXT,)),
    "ggml_backend_load": (_POINTER, (_TEXT,)),
    "ggml_backend_unload": (None, (_POINTER,)),
}


@cache
def use_best() -> str:
    """Have llama.cpp compute with the best kernels there are for this processor; return the name of their level.

    It is "" for llama.cpp's own. Models that are loaded keep the kernels that they were loaded with. Once a process.
    """
    for level, file in _fitting(FOLDER, flags()):
        if _replaced(file):
            return level
    return ""


def _fitting(folder: Path, processor: AbstractSet[str]) -> Iterator[tuple[str, Path]]:
    """Yield the levels that a processor with these flags has, the best first, each with its library."""
    manifest = folder / "kernels.json"
    for row in json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else ():
        file = folder / row["file"]
        if not set(row["flags"]) <= processor:
            continue
        # Before it is loaded: a library that is cut short or damaged can end the process.
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != row["sha256"]:
            sys.stderr.write(f"kernels: {file.name} is damaged; others are taken\n")
            continue
        yield row["level"], file


def _replaced(file: Path) -> bool:
    """Have ggml take another CPU backend; return whether it did. It asks the processor too, before it takes one."""
    library = ggml(_SIGNATURES)
    own = library.ggml_backend_reg_by_name(b"CPU")
    if not library.ggml_backend_load(str(file).encode()):
        return False
    library.ggml_backend_unload(own)
    return True


def ggml(signatures: Mapping[str, Signature]) -> Any:
    """Return ggml as llama.cpp itself has it, with some functions declared: each with its result and its arguments."""
    from llama_cpp import llama_cpp

    # By llama.cpp's library: the file libggml.so beside it is a copy, with backends of its own.
    return declared(llama_cpp._lib, signatures)  # noqa: SLF001 - it is what all of llama-cpp-python calls
