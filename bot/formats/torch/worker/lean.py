"""The file of a model in the memory of a few rows: what compressed-tensors makes of them, each put at its place.

The library itself quantizes and packs. Only it is given rows and not matrices, which gives the same numbers, for its
groups lie in a row; and all variants take their rows from one reading. So a model is never held.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.torch.worker import calibrated
from bot.formats.torch.worker.beside import write_beside
from bot.formats.torch.worker.layout import FILE, Layout, Part, layout
from bot.formats.torch.worker.scheme import compressed, quantizes, scheme_of
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import Solver, SolverAtWork, at_work_on, solver_of
from bot.worker.fast import NotCovered, require_versions
from bot.worker.feed import Feed
from bot.worker.harness import Reporter, error_line
from bot.worker.mapped import Mapped
from bot.worker.order import model_order
from bot.worker.placed import PlacedFile

Tensor = Any  # torch is not installed where mypy runs

PINNED = {"compressed-tensors": "0.19.0", "transformers": "5.23.0"}
_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}  # numpy has no bfloat16: here its bits
_CHUNK = 1 << 22  # weights that are computed together: 8 MB
_LARGEST = 50 * 10**9  # bytes of a file; transformers divides larger ones
_SHAPE = "weight_shape"  # what of a matrix is of no row of it
_NAMES = {"int64": "I64", "float32": "F32", "int32": "I32", "bfloat16": "BF16", "float16": "F16"} | {
    "float8_e4m3fn": "F8_E4M3",
    "int8": "I8",
}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The plan of a target's file: what each tensor of the source becomes, and where that lies."""

    target: Target
    scheme: Any
    kind: str
    parts: Mapping[str, Sequence[Part]]
    layout: Layout

    def begin(self, scratch: Path, opened: ExitStack, solver: Solver | None) -> "_Output":
        """Open the file, a new one or that of a build that was killed. A calibrated target takes the ``solver``."""
        variant = self.target.variant
        folder = Path(self.target.partial) if self.target.partial else scratch / variant.short_name
        says: dict[str, Any] = {"versions": PINNED, "recipe": variant.options, "header": self.layout.header.hex()}
        at_work = at_work_on(variant, solver, folder)
        if at_work is not None:
            says["moments"] = at_work.moments
        file = opened.enter_context(PlacedFile(folder, FILE, self.layout.size, says, self.layout.places))
        file.write(self.layout.header, 0)
        return _Output(plan=self, file=file, solver=at_work)


@dataclass(frozen=True, kw_only=True)
class _Output:
    """A target on its way. With a ``solver`` its matrices are quantized by that."""

    plan: _Plan
    file: PlacedFile
    solver: SolverAtWork | None

    def lacks(self, source: str) -> bool:
        """Say whether anything of a tensor of the source has to be written."""
        solved = self.solver is None or not self._solves(source) or source in self.solver.done
        return not solved or any(part.name not in self.file.whole for part in self.plan.parts[source])

    def _solves(self, source: str) -> bool:
        return self.solver is not None and len(self.plan.parts[source]) > 1

    def size(self, source: str) -> int:
        """Return the bytes that a tensor of the source becomes."""
        return sum(part.size for part in self.plan.parts[source])

    def write(self, source: str, first: int, rows: Tensor, shape: tuple[int, ...]) -> int:
        """Write what rows of a tensor become, from the row ``first`` on; return how many bytes."""
        written = 0
        for part, values in zip(self.plan.parts[source], self._made(source, rows, shape), strict=True):
            of_rows = not part.name.endswith(_SHAPE)
            if first and not of_rows:
                continue
            begin, _ = self.plan.layout.places[part.name]
            data = _bytes(values)
            self.file.write(data, begin + (first * part.size // part.shape[0] if of_rows else 0))
            written += len(data)
        return written

    def _made(self, source: str, rows: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
        import torch

        rows = rows.to(getattr(torch, _TYPES[self.plan.kind]))
        if not quantizes(source, shape):
            return [rows]
        if self.solver is None:
            made = compressed(rows, self.plan.scheme)
        else:
            made = calibrated.compressed(self.solver, source, rows, self.plan.scheme)
        if _SHAPE in made:
            made[_SHAPE] = torch.tensor(shape)
        return [made[part.name.removeprefix(source.removesuffix("weight"))] for part in self.plan.parts[source]]

    def mark(self, source: str) -> None:
        """Say that all of a tensor of the source is written."""
        if self.solver is not None and self._solves(source):
            self.solver.finish(source)
        for part in self.plan.parts[source]:
            self.file.mark(part.name)


def build(task: BuildTask, stop: Sequence[int], report: Reporter) -> None:
    """Build all targets in one pass over the weights. One that compressed-tensors cannot make fails alone.

    ``stop`` are the ids that end generating. Raises NotCovered, SourceProblem, and OSError when the disk fills up.
    """
    import torch

    require_versions(PINNED)
    if sys.byteorder != "little" or not hasattr(os, "pwrite"):
        raise NotCovered("it was not tried on this system")
    torch.set_num_threads(task.threads)
    source, scratch = Path(task.source), Path(task.scratch)
    mapped = Mapped(source, Feed(report) if task.streamed else None)
    plans = []
    for target in task.targets:
        try:
            plans.append(_plan(target, mapped, model_type(source, mapped)))
        except NotCovered:
            raise
        except Exception as error:  # noqa: BLE001 - whatever compressed-tensors says of this variant
            report.failed(target.variant, f"compressed-tensors failed: {error_line(error)}")
    if not plans:
        return
    what = f"converting to {', '.join(plan.target.variant.short_name for plan in plans)}"
    with ExitStack() as opened:
        solver = opened.enter_context(solver_of(task))
        outputs = [plan.begin(scratch, opened, solver) for plan in plans]
        _write(outputs, mapped, lambda done, total: report.progress(what, done, total, "bytes"))
        hashed = {}
        for output in outputs:
            out = Path(output.plan.target.out)
            write_beside(source, out, output.plan.scheme, stop)
            hashed[out / FILE] = output.file.finish(out / FILE)
    solved = {o.plan.target.variant.name: o.solver.done for o in outputs if o.solver is not None}
    report.built_together([plan.target for plan in plans], hashed, solved)


def model_type(source: Path, mapped: Mapped) -> str:
    """Return the type that transformers loads a checkpoint in, which all that is not quantized has in the file."""
    from transformers import AutoConfig

    said = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False).dtype
    known = {name: kind for kind, name in _TYPES.items()}
    kind = known.get(str(said).removeprefix("torch."))
    return kind or next(stored.dtype for stored in mapped.stored.values())


def _plan(target: Target, mapped: Mapped, kind: str) -> _Plan:
    scheme = scheme_of(target.variant)
    parts = {name: _parts(name, mapped.stored[name].shape, kind, scheme) for name in kept(mapped)}
    found = layout([part for of in parts.values() for part in of])
    if found.size > _LARGEST:
        raise NotCovered("transformers would divide the file")
    return _Plan(target=target, scheme=scheme, kind=kind, parts=parts, layout=found)


def kept(mapped: Mapped) -> list[str]:
    """Return the tensors of a checkpoint that a model has, in the order in which they are read."""
    return sorted((n for n in mapped.stored if not n.endswith("rotary_emb.inv_freq")), key=model_order)


def _parts(name: str, shape: tuple[int, ...], kind: str, scheme: Any) -> list[Part]:
    import torch

    if not quantizes(name, shape):
        return [Part(name=name, dtype=kind, shape=shape)]
    rows = torch.empty(shape, dtype=getattr(torch, _TYPES[kind]), device="meta")
    made, stem = compressed(rows, scheme), name.removesuffix("weight")
    kinds = {n: _NAMES[str(t.dtype).removeprefix("torch.")] for n, t in made.items()}
    return [Part(name=f"{stem}{n}", dtype=kinds[n], shape=tuple(t.shape)) for n, t in made.items()]


def _write(outputs: Sequence[_Output], mapped: Mapped, progress: Callable[[int, int], None]) -> None:
    """Write in one pass, to each output, what is not whole in it. ``progress`` takes the bytes done, and all."""
    names = list(outputs[0].plan.parts)
    wanting = {name: [output for output in outputs if output.lacks(name)] for name in names}
    todo = [name for name in names if wanting[name]]
    total = sum(output.size(name) for output in outputs for name in names)
    done = total - sum(output.size(name) for name in todo for output in wanting[name])
    mapped.order(todo)
    for name in todo:
        shape = mapped.stored[name].shape
        for first, rows in _chunks(mapped, name):
            for output in wanting[name]:
                done += output.write(name, first, rows, shape)
            progress(done, total)
        for output in wanting[name]:
            output.mark(name)
    if done != total:
        raise RuntimeError(f"{done} bytes were written of {total}")


def _chunks(mapped: Mapped, name: str) -> Iterator[tuple[int, Tensor]]:
    """Yield rows of a tensor, and the number of the first of them. Look at them before others are asked for."""
    import torch

    stored = mapped.stored[name]
    step = max(_CHUNK // math.prod(stored.shape[1:]), 1)
    each = stored.size // stored.shape[0]
    with mapped.held(name):
        whole = mapped.view(name)
        for first in range(0, stored.shape[0], step):
            end = min(first + step, stored.shape[0])
            rows = np.frombuffer(whole[first * each : end * each], _NUMPY[stored.dtype]).copy()
            values = torch.from_numpy(rows).reshape(-1, *stored.shape[1:])
            yield first, values.view(torch.bfloat16) if stored.dtype == "BF16" else values
            mapped.drop(name, first * each, end * each)


def _bytes(values: Tensor) -> memoryview:
    import torch

    return memoryview(values.contiguous().view(torch.uint8).numpy()).cast("B")
