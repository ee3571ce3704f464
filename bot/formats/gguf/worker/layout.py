"""All of a GGUF file but its weights: its header, and where each tensor is to lie, of which type.

For a quantized file llama.cpp's quantizer decides the types; asked in a dry run, it reads no weights. The header is
then put together by the calls of ggml that llama_model_quantize_impl makes.
"""

import ctypes
import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.imatrix import ImportanceMatrix, truncated
from bot.formats.gguf.worker.quantize import file_type, quantize
from bot.worker.fast import NotCovered

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION
_NEEDS_MATRIX = "this quantization requires an imatrix!"

# A tensor's line in a dry run, and the total, rounded to hundredths of a MiB.
_TENSOR = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*\], type = +(\w+), size = .* MiB(?: -> .* MiB \((\w+)\))?$")
_TOTAL = re.compile(r"quant size += +([\d.]+) MiB")
_MIB, _ROUNDING = 1 << 20, 0.006


class QuantizerRefused(Exception):  # noqa: N818 - an answer of the tool's: the variant is not made, the others are
    """llama.cpp's quantizer does not make such a file. The message is its own."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of a tensor: ``kind`` is a number of ggml_type, ``offset`` and ``size`` are in bytes of the file."""

    kind: int
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A file's header, padding included, its tensors in their order, and its ``size`` in bytes."""

    header: bytes
    slots: Mapping[str, Slot]
    size: int


def write_skeleton(writer: Any, file: Path) -> Layout:
    """Write what the converter would, with a hole where the weights are to be. The converter's writer is used up."""
    writer.write_header_to_file(path=file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    (opened,) = writer.fout
    writer.write_padding(opened, opened.tell())
    end = opened.tell()
    writer.close()
    header = file.read_bytes()
    slots = {}
    for name, tensor in writer.tensors[0].items():
        slots[name] = Slot(kind=int(tensor.dtype), offset=end, size=tensor.nbytes)
        end += padded(tensor.nbytes, writer.data_alignment)
    with file.open("r+b") as opened:
        opened.truncate(end)
    return Layout(header=header, slots=slots, size=end)


def quantized_layout(skeleton: Path, base: Layout, kind: str, matrix: ImportanceMatrix | None) -> Layout:
    """Return the layout of the file that the quantizer makes of a type from the converter's.

    Raises Refused when it would make none, and NotCovered when what it says is not understood.
    """
    types, total = _decided(skeleton, base, kind, matrix)
    layout = laid_out(skeleton, kind, matrix, types)
    if abs(sum(s.size for s in layout.slots.values()) / _MIB - total) > _ROUNDING:
        raise NotCovered("a dry run of llama.cpp's quantizer comes to another size")
    return layout


def laid_out(skeleton: Path, kind: str, matrix: ImportanceMatrix | None, types: Mapping[str, int]) -> Layout:
    """Return the layout of a file of a type from the converter's, whose tensors have the ``types`` in this order."""
    with ExitStack() as opened:
        lib = ggml.library()
        converted, tensors = ggml.open_header(skeleton)
        opened.callback(lib.gguf_free, converted)
        opened.callback(lib.ggml_free, tensors)
        header = lib.gguf_init_empty()
        opened.callback(lib.gguf_free, header)
        lib.gguf_set_kv(header, converted)
        lib.gguf_set_val_u32(header, b"general.quantization_version", _QUANTIZATION_VERSION)
        lib.gguf_set_val_u32(header, b"general.file_type", file_type(kind))
        for key, value in matrix.metadata() if matrix is not None else ():
            if isinstance(value, int):
                lib.gguf_set_val_u32(header, key.encode(), value)
            else:
                lib.gguf_set_val_str(header, key.encode(), truncated(value))
        for name in types:
            lib.gguf_add_tensor(header, lib.ggml_get_tensor(tensors, name.encode()))
        for name, decided in types.items():
            lib.gguf_set_tensor_type(header, name.encode(), decided)
        data = ctypes.create_string_buffer(lib.gguf_get_meta_size(header))
        lib.gguf_get_meta_data(header, data)
        slots = {
            name: Slot(
                kind=decided,
                offset=len(data) + lib.gguf_get_tensor_offset(header, i),
                size=lib.gguf_get_tensor_size(header, i),
            )
            for i, (name, decided) in enumerate(types.items())
        }
    last = list(slots.values())[-1]
    return Layout(header=data.raw, slots=slots, size=padded(last.offset + last.size))


def _decided(skeleton: Path, base: Layout, kind: str, matrix: ImportanceMatrix | None) -> tuple[dict[str, int], float]:
    """Return what the quantizer's dry run says: each tensor's type, in the order of the file, and their size in MiB."""
    from gguf import GGMLQuantizationType

    said: list[str] = []
    refused = quantize(skeleton, None, kind, threads=1, each=said.append, matrix=matrix)
    if refused is not None:
        raise QuantizerRefused(refused)
    text = "".join(said)
    if "will require an imatrix" in text:
        raise QuantizerRefused(_NEEDS_MATRIX)
    found = [m for m in map(_TENSOR.match, text.splitlines()) if m]
    types = {m[1]: int(GGMLQuantizationType[(m[3] or m[2]).upper()]) for m in found}
    total = _TOTAL.search(text)
    if total is None or len(found) != len(types) or types.keys() != base.slots.keys():
        raise NotCovered("a dry run of llama.cpp's quantizer does not name each tensor once")
    return types, float(total[1])


def padded(size: int, alignment: int = 32) -> int:
    """Return the bytes that a tensor of so many takes in a file."""
    return math.ceil(size / alignment) * alignment
