"""GGUF straight from the checkpoint: no converted file in between, and one read for all variants.

The stock way writes the whole model once more as a file (29 GB of Phi-4) and reads it again for each variant. Here the
converter says what the tensors are, the quantizer what becomes of each, and their own functions are called on some rows
at a time. The bytes are the same.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from bot.formats.gguf.worker import calibrated, mix
from bot.formats.gguf.worker.convert import STORED, file_of, kind_of, label_of, own_type, read_model, type_of
from bot.formats.gguf.worker.imatrix import Array, ImportanceMatrix, MissingWeightsError, weights_for
from bot.formats.gguf.worker.kquants import Quantize, by_ggml, quantizer
from bot.formats.gguf.worker.layout import Layout, QuantizerRefused, laid_out, quantized_layout, write_skeleton
from bot.formats.gguf.worker.onepass import Pass
from bot.formats.gguf.worker.origin import origins
from bot.formats.gguf.worker.rows import Base, Output
from bot.records.artifacts import TypesByCost
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import Solver, at_work_on, solver_with
from bot.worker.checkpoint import weight_types
from bot.worker.fast import NotCovered, require_versions
from bot.worker.feed import Feed
from bot.worker.harness import Reporter, SourceProblem
from bot.worker.mapped import Mapped
from bot.worker.mixing import Tensor, TooSmall
from bot.worker.placed import PlacedFile

PINNED = {"llama-cpp-python": "0.3.36"}  #: its archive holds the converter too


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The file to be made for a target. ``weights`` are those of ``matrix``, by tensor.

    A calibrated one takes the ``solver``, and has a matrix of what that knows. ``chosen`` are types chosen by cost.
    """

    target: Target
    base: Base
    layout: Layout
    quantized: bool
    matrix: ImportanceMatrix | None
    weights: Mapping[str, Array]
    solver: Solver | None = None
    chosen: TypesByCost | None = None


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """The importance matrices that were ``measured``, by variant; and the solver, whose moments make one for others.

    The ``mixer`` chooses types by cost, where a task has what that takes.
    """

    measured: Mapping[str, ImportanceMatrix]
    solver: Solver | None
    mixer: mix.Mixer | None

    def of(self, target: Target, base: Base) -> ImportanceMatrix | None:
        """Return the matrix of a target."""
        if not target.variant.is_calibrated:
            return self.measured.get(target.variant.name)
        if self.solver is None:
            raise ValueError(f"{target.variant.name} is calibrated, and its task has no moments")
        return calibrated.importance(self.solver.moments, base.origins)

    def costs_of(self, target: Target, base: Base) -> Mapping[str, Tensor]:
        """Return what each type costs that a target's tensors may have."""
        if self.mixer is None:
            raise ValueError(f"{target.variant.name} chooses types by cost, and its task has no sensitivities")
        return self.mixer.table(base)


def build(task: BuildTask, report: Reporter, matrices: Mapping[str, ImportanceMatrix]) -> None:
    """Build each target, with the importance matrix of its variant if there is one. A refused type fails alone.

    Raises NotCovered before anything is built, SourceProblem when the converter cannot read the model, and OSError when
    the disk fills up.
    """
    require_versions(PINNED)
    if sys.byteorder != "little" or not hasattr(os, "pwrite"):
        raise NotCovered("it was not tried on this system")
    report.progress("reading the model", 0, 0, "tensors")
    own = own_type(weight_types(Path(task.source)))
    mapped = _mapped(task, report)
    solver = solver_with(task, map)  # a chunk of rows has a thread of its own anyway
    kernels = cache(partial(quantizer, report.note))  # said of once, and only where something is quantized
    given = Matrices(measured=matrices, solver=solver, mixer=mix.mixer_with(task, kernels, report))
    plans, refused = _plans(task, mapped, own, given)
    for target, reason in refused:
        report.failed(target.variant, reason)
    if plans:
        _write(task, plans, mapped, report, kernels() if any(p.quantized for p in plans) else by_ggml)


def _mapped(task: BuildTask, report: Reporter) -> Mapped:
    try:
        return Mapped(Path(task.source), Feed(report) if task.streamed else None)
    except SourceProblem as problem:  # the files are whole, so it is a type that the converter may know
        raise NotCovered(str(problem)) from problem


def _plans(
    task: BuildTask, mapped: Mapped, own: str, matrices: Matrices
) -> tuple[list[_Plan], list[tuple[Target, str]]]:
    """Return what to make, and the targets that are refused, with the reason."""
    skeletons: dict[str, Path] = {}
    bases: dict[str, Base] = {}
    plans, refused = [], []
    try:
        for kind in dict.fromkeys(k if (k := type_of(t)) in STORED else own for t in task.targets):
            skeletons[kind] = Path(task.scratch) / f"{kind}.skeleton"
            bases[kind] = _base(task, kind, skeletons[kind], mapped)
        for target in task.targets:
            kind = type_of(target)
            if kind in STORED:
                base = bases[kind]
                plan = _Plan(target=target, base=base, layout=base.layout, quantized=False, matrix=None, weights={})
                plans.append(plan)
                continue
            try:
                plans.append(_quantized(target, bases[own], skeletons[own], matrices))
            except (QuantizerRefused, MissingWeightsError, TooSmall) as reason:
                refused.append((target, str(reason)))
    finally:
        for file in skeletons.values():
            file.unlink(missing_ok=True)
    return plans, refused


def _base(task: BuildTask, kind: str, skeleton: Path, mapped: Mapped) -> Base:
    writer = read_model(task, kind, skeleton)
    if len(writer.tensors) != 1:
        raise NotCovered("the converter would write several files")
    found = origins(writer, mapped.stored)
    return Base(layout=write_skeleton(writer, skeleton), tensors=writer.tensors[0], origins=found)


def _quantized(target: Target, base: Base, skeleton: Path, matrices: Matrices) -> _Plan:
    matrix = matrices.of(target, base)
    kind, found = type_of(target), None
    if (limit := target.variant.size_limit) is not None:
        mixes = {k: quantized_layout(skeleton, base.layout, k, matrix) for k in mix.OWN}
        kind, found = mix.fit(matrices.costs_of(target, base), mixes, limit)
        layout = mixes[kind]
    else:
        layout = quantized_layout(skeleton, base.layout, kind, matrix)
        if mix.takes(target.variant):
            found = mix.choose(matrices.costs_of(target, base), layout)
    if found is not None:
        layout = laid_out(skeleton, kind, matrix, found.kinds)
    if limit is not None and layout.size > limit:
        raise RuntimeError(f"{target.variant.name} would have {layout.size} bytes")
    weights = {}
    for name, slot in layout.slots.items():
        if slot.kind != base.layout.slots[name].kind:
            entry = weights_for(matrix, name, base.tensors[name].shape, slot.kind, kind)
            if entry is not None:
                weights[name] = entry
    return _Plan(
        target=target,
        base=base,
        layout=layout,
        quantized=True,
        matrix=matrix,
        weights=weights,
        solver=matrices.solver,
        chosen=found.said if found is not None else None,
    )


def _write(task: BuildTask, plans: list[_Plan], mapped: Mapped, report: Reporter, quantize: Quantize) -> None:
    what = "writing " + ", ".join(label_of(p.target) for p in plans)

    def progress(done: int, total: int) -> None:
        report.progress(what, done, total, "bytes")

    with ExitStack() as files:
        outputs = [_open(task, plan, files) for plan in plans]
        Pass(mapped, outputs, quantize, progress).run(task.threads)
        hashed: dict[Path, str] = {}
        for plan, output in zip(plans, outputs, strict=True):
            if output.refused is not None:
                output.placed.discard()
                report.failed(plan.target.variant, output.refused, kind=kind_of(output.refused))
            else:
                file = file_of(task, plan.target)
                hashed[file] = output.placed.finish(file)
        built = [(p.target, o) for p, o in zip(plans, outputs, strict=True) if o.refused is None]
        solved = {t.variant.name: o.solver.done for t, o in built if o.solver is not None}
        chosen = {p.target.variant.name: p.chosen for p in plans if p.chosen is not None}
        report.built_together([target for target, _ in built], hashed, solved, chosen)


def _open(task: BuildTask, plan: _Plan, files: ExitStack) -> Output:
    file = file_of(task, plan.target)
    folder = Path(plan.target.partial or Path(task.scratch) / "partial")
    decides = {
        "header": hashlib.sha256(plan.layout.header).hexdigest(),
        "matrix": plan.matrix.digest() if plan.matrix is not None else None,
    }
    at_work = at_work_on(plan.target.variant, plan.solver, folder)
    if at_work is not None:
        decides["moments"] = at_work.moments
    parts = {name: (slot.offset, slot.offset + slot.size) for name, slot in plan.layout.slots.items()}
    placed = files.enter_context(PlacedFile(folder, file.name, plan.layout.size, decides, parts))
    placed.write(plan.layout.header, 0)
    return Output(
        base=plan.base,
        layout=plan.layout,
        placed=placed,
        quantized=plan.quantized,
        weights=plan.weights,
        solver=at_work,
    )
