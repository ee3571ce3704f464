"""Write the data of OpenVINO models: each constant's bytes, made from the source a few rows at a time.

All files take what they need of a weight while it is there, one after the other: rows that a file was made of have
been dropped when the next one needs them, but the system still has them, and maps them again for next to nothing.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, TypedDict

import torch

from bot.formats.openvino.worker.plan import Constant, Part, Whole, weights, with_offsets
from bot.records.artifacts import Json
from bot.worker.calibrated import SolverAtWork
from bot.worker.fast import NotCovered
from bot.worker.growing import GrowingFile
from bot.worker.mapped import Mapped
from bot.worker.order import stretches_in_order

_NUMBERS = 1 << 22  # of a matrix at a time
_HEAD = 1 << 16  # bytes by which constants are told apart; those that begin alike are compared whole
_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


class _Written(TypedDict):
    """The progress of a file: the place of each constant so far, and of each that is in the file its size and head.

    ``solved`` is what was solved so far (see bot/worker/calibrated.py).
    """

    offsets: list[int]
    heads: list[tuple[int, str, int]]
    solved: dict[str, str]


# The numbers of a source are mapped for reading, and torch warns of tensors that cannot be written.
warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """The data of the graph in ``xml``. It grows in ``folder``: with that, the next process goes on after a kill.

    A calibrated one has a ``solver``, which its constants are made with.
    """

    constants: tuple[Constant, ...]
    xml: Path
    folder: Path
    solver: SolverAtWork | None = None


class _Open:
    """A data file while it grows, by stretches: a constant that is read from the source, with what follows it."""

    def __init__(self, file: DataFile, mapped: Mapped) -> None:
        self._file, self._mapped = file, mapped
        self.target = file.xml.with_suffix(".bin")
        described = _described(file.constants)
        if file.solver is not None:
            described.append(["moments", file.solver.moments])
        self.growing = GrowingFile(file.folder, self.target.name, described)
        self._state: _Written = self.growing.state or {"offsets": [], "heads": [], "solved": {}}
        if file.solver is not None:
            file.solver.done = self._state["solved"]
        self._end = max((offset + size for size, _, offset in self._state["heads"]), default=0)
        self._may_stop = _whole(file.constants)
        self.size = sum(c.size for c in file.constants)
        self.done = sum(c.size for c in file.constants[: len(self._state["offsets"])])

    @property
    def left(self) -> tuple[Constant, ...]:
        """The constants that it does not have yet."""
        return self._file.constants[len(self._state["offsets"]) :]

    def append_stretch(self) -> None:
        """Append the next constant, and those after it that need no weight. The weight of it has to be held."""
        offsets, heads = self._state["offsets"], self._state["heads"]
        for number, constant in enumerate(self.left):
            if number and weights([constant]):
                break
            offset = _append(self.growing, constant, self._end, heads, self._mapped)
            offsets.append(offset)
            self._end = max(self._end, offset + constant.size)
            self.done += constant.size
            if self._file.solver is not None:
                self._state["solved"] = dict(self._file.solver.done)
            if len(offsets) in self._may_stop:
                self.growing.mark(self._state)

    def finish(self) -> str:
        """Give the file its name, and the graph the places of its constants; return the file's SHA-256, in hex."""
        self.growing.mark(self._state, now=True)
        self._file.xml.write_bytes(with_offsets(self._file.xml.read_bytes(), self._state["offsets"]))
        return self.growing.finish(self.target)


def write(
    files: Sequence[DataFile],
    mapped: Mapped,
    progress: Callable[[int, int], None],
    lost: Callable[[int, Exception], None],
) -> dict[Path, str]:
    """Write all data files in one read of the source, going on where an earlier process was stopped.

    Returns the SHA-256 of each, in hex. ``progress`` is told the bytes that are written and those of all files, and
    ``lost`` which file cannot be made, and of what; the others go on. Raises OSError when the disk fills up.
    """
    with ExitStack() as stack:
        opened = [_Open(file, mapped) for file in files]
        for one in opened:
            stack.enter_context(one.growing)
        alive = dict(enumerate(opened))
        steps = list(stretches_in_order([_reads(one.left) for one in opened]))
        mapped.order([name for names, _ in steps for name in names])
        _tell(progress, alive.values())
        for names, numbers in steps:
            now = [number for number in numbers if number in alive]
            with mapped.held(*names if now else ()):
                for number in now:
                    try:
                        alive[number].append_stretch()
                    except OSError:  # of the disk or the source, which the others share
                        raise
                    except Exception as error:  # noqa: BLE001 - whatever a toolchain raises
                        del alive[number]
                        lost(number, error)
            _tell(progress, alive.values())
        return {one.target: one.finish() for one in alive.values()}


def _tell(progress: Callable[[int, int], None], files: Collection[_Open]) -> None:
    progress(sum(one.done for one in files), sum(one.size for one in files))


def _reads(constants: Sequence[Constant]) -> list[tuple[str, ...]]:
    """Return the weight that each stretch of a file needs. The first may need none."""
    needed = [tuple(weights([constant])) for constant in constants]
    return [*needed[:1], *filter(None, needed[1:])]


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


def _append(file: GrowingFile, constant: Constant, end: int, heads: list[tuple[int, str, int]], mapped: Mapped) -> int:
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
        made_of.of.begin()
        for rows in _rows(mapped, made_of.of.weight, getattr(torch, made_of.of.loaded)):
            yield made_of.of.run(rows)
        made_of.of.end()
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


def _described(constants: Sequence[Constant]) -> list[Json]:
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
