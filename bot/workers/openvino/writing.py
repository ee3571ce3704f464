"""Write the data of an OpenVINO model: each constant's bytes, made from the source a few rows at a time."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, TypedDict

import torch

from bot.records import Json
from bot.workers.fast import NotCovered
from bot.workers.growing import Growing
from bot.workers.harness import Reporter
from bot.workers.mapped import Mapped
from bot.workers.openvino.plan import Constant, Part, Whole, placed, weights

_NUMBERS = 1 << 22  # of a matrix at a time
_HEAD = 1 << 16  # bytes by which constants are told apart; those that begin alike are compared whole
_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


class _Written(TypedDict):
    """How far a file is: the place of each constant so far, and of each that is in the file its size and head."""

    offsets: list[int]
    heads: list[tuple[int, str, int]]


# The numbers of a source are mapped for reading, and torch warns of tensors that cannot be written.
warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)


def write(constants: Sequence[Constant], xml: Path, mapped: Mapped, folder: Path, what: str, report: Reporter) -> None:
    """Write the data of a graph, and the places of its constants into the graph.

    The half-written data is kept in ``folder``: with it, the next process goes on where this one ended.
    """
    target = xml.with_suffix(".bin")
    with Growing(folder, target.name, _described(constants)) as file:
        done: _Written = file.state or {"offsets": [], "heads": []}
        _write(file, constants, done, mapped, what, report)
        xml.write_bytes(placed(xml.read_bytes(), done["offsets"]))
        file.finish(target)


def _write(
    file: Growing, constants: Sequence[Constant], done: _Written, mapped: Mapped, what: str, report: Reporter
) -> None:
    offsets, heads = done["offsets"], done["heads"]
    left = constants[len(offsets) :]
    mapped.order(weights(left))
    total = sum(c.size for c in constants)
    begun = total - sum(c.size for c in left)
    whole = _whole(constants)
    end = max((offset + size for size, _, offset in heads), default=0)
    for constant in left:
        report.progress(what, begun, total, "bytes")
        with mapped.held(*weights([constant])):
            offset = _append(file, constant, end, heads, mapped)
        offsets.append(offset)
        end = max(end, offset + constant.size)
        begun += constant.size
        if len(offsets) in whole:
            file.mark(done)
    file.mark(done, now=True)
    report.progress(what, total, total, "bytes")


def _whole(constants: Sequence[Constant]) -> set[int]:
    """Return after how many constants a file may be left: what was computed with those weights is written too."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, constant in enumerate(constants, 1):
        if isinstance(constant.made_of, Part):
            first.setdefault(id(constant.made_of.of), number)
            last[id(constant.made_of.of)] = number
    waiting = {n for job, begin in first.items() for n in range(begin, last[job])}
    return set(range(1, len(constants) + 1)) - waiting


def _append(file: Growing, constant: Constant, end: int, heads: list[tuple[int, str, int]], mapped: Mapped) -> int:
    """Append a constant's bytes, unless the file has them; return where it has them.

    OpenVINO writes equal constants once. It takes a digest of each to find them, which would cost as much as writing:
    here their beginnings are compared first.
    """
    pieces = _pieces(constant, mapped)
    first = next(pieces)
    head = hashlib.blake2b(memoryview(first)[:_HEAD], digest_size=16).hexdigest()
    alike = [offset for size, known, offset in heads if (size, known) == (constant.size, head)]
    for offset in alike:
        if _equal(file.fileno(), offset, _pieces(constant, mapped)):
            return offset
    for piece in _pieces(constant, mapped) if alike else chain((first,), pieces):
        file.write(piece)
    heads.append((constant.size, head, end))
    return end


def _equal(file: int, offset: int, pieces: Iterator[Any]) -> bool:
    for piece in pieces:
        there = memoryview(piece).cast("B")
        if os.pread(file, len(there), offset) != there:
            return False
        offset += len(there)
    return True


def _pieces(constant: Constant, mapped: Mapped) -> Iterator[Any]:
    """Yield a constant's bytes, from the first to the last."""
    made_of = constant.made_of
    if isinstance(made_of, bytes):
        yield made_of or b"\0"  # an empty one takes a byte
    elif isinstance(made_of, Whole):
        yield from _rows(mapped, made_of.weight, getattr(torch, made_of.type))
    elif made_of.what == "weight":
        made_of.of.kept.clear()
        for rows in _rows(mapped, made_of.of.weight, getattr(torch, made_of.of.loaded)):
            yield made_of.of.run(rows)
    else:
        yield b"".join(made_of.of.kept[made_of.what])


def _rows(mapped: Mapped, name: str, loaded: Any) -> Iterator[Any]:
    """Yield the rows of a matrix in numbers of a type, as bytes. All parts but the last have as many, and even."""
    stored, view = mapped.stored[name], mapped.view(name)
    width = stored.size // stored.shape[0]
    numbers = prod(stored.shape[1:])
    step = max(2, _NUMBERS // numbers // 2 * 2)  # two rows of 4 bits fill whole bytes, whatever their length
    for first in range(0, stored.shape[0], step):
        begin, end = first * width, min(first + step, stored.shape[0]) * width
        rows = torch.frombuffer(view[begin:end], dtype=_TYPES[stored.dtype])
        if loaded is torch.float32:
            _require_ordinary(name, rows)
        yield rows.to(loaded).view(torch.uint8).numpy()
        mapped.drop(name, begin, end)


def _require_ordinary(name: str, rows: Any) -> None:
    """Raise NotCovered for numbers that OpenVINO makes something else of when it looks at them in 32 bits."""
    if ((rows != 0) & (rows.abs() < torch.finfo(torch.float32).tiny)).any():
        raise NotCovered(f"{name} has denormal numbers")
    if (rows == rows[0]).all():
        raise NotCovered(f"{name} has many numbers that are the same")


def _described(constants: Sequence[Constant]) -> Json:
    """Return all that the bytes of the file depend on, beside the weights and the options of the build."""
    described: list[Json] = []
    for c in constants:
        if isinstance(c.made_of, bytes):
            described.append([c.size, hashlib.sha256(c.made_of).hexdigest()])
        elif isinstance(c.made_of, Whole):
            described.append([c.size, c.made_of.weight, c.made_of.type])
        else:
            described.append([c.size, c.made_of.of.weight, c.made_of.what])
    return described
