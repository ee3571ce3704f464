"""OpenVINO in little memory: models are planned with stand-ins for the weights, and then all written in one read.

Each target has to be planned in a process of its own: OpenVINO and torch count what they make, and name the nodes of a
graph by the numbers. All but the last are planned in processes that then end, and give back their memory; the last one
here, which has the toolchain imported for writing: that would take another 2 seconds of processor, and more of a disk.
"""

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.formats.openvino.worker.export import attempt, empty, export, failed, prepare
from bot.formats.openvino.worker.mix import OPTION
from bot.records.artifacts import Json, TypesByCost
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import SolverAtWork, at_work_on, solver_of
from bot.worker.fast import NotCovered, require_versions
from bot.worker.feed import Feed
from bot.worker.harness import NeedsWholeSource, Reporter
from bot.worker.isolated import run_alone
from bot.worker.mapped import Mapped
from bot.worker.mixing import mixer_with

MODULE = "bot.formats.openvino.worker"  #: the worker, whose commands plan one target, or build it the stock way
PINNED = {  #: what this was compared with: it leans on how these work inside
    "optimum-intel": "2.2.0",
    "optimum": "2.3.0",
    "transformers": "5.5.4",
    "nncf": "3.4.0",
    "openvino": "2026.4.1",
}

Left = list[tuple[Target, str]]  #: what is left to the stock path, and why


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A target whose files are all there but for the weights; ``plan`` is as ``plan`` returns it."""

    target: Target
    plan: Json


def build(task: BuildTask, report: Reporter) -> Left:
    """Build all that is covered with one read of the weights; return the rest. One that cannot be made fails alone.

    Leaves nothing where it raises: SourceProblem and OSError as ``build.build`` does, and NeedsWholeSource where a
    source streams and there is a rest.
    """
    try:
        require_versions(PINNED)
    except NotCovered as why:
        return [(target, str(why)) for target in task.targets]
    try:
        planned, left = _plan_all(task, report)
        left += _write(task, planned, report)
    except BaseException:
        for target in task.targets:
            empty(target)
        raise
    return left


def _plan_all(task: BuildTask, report: Reporter) -> tuple[list[_Planned], Left]:
    planned: list[_Planned] = []
    left: Left = []
    for target in task.targets:
        try:
            made = plan(task, target, report) if target is task.targets[-1] else _plan_alone(task, target, report)
        except NotCovered as why:
            _require_whole(task, why)
            left.append((target, str(why)))
        else:
            if made is not None:
                planned.append(_Planned(target=target, plan=made))
    return planned, left


def _plan_alone(task: BuildTask, target: Target, report: Reporter) -> Json:
    answer = run_alone(MODULE, "plan", task, target, report)
    if answer is None:
        empty(target)  # it may have died
        return None
    if "refused" in answer:
        raise NotCovered(answer["refused"])
    return answer["planned"]


def _require_whole(task: BuildTask, why: NotCovered) -> None:
    """Let the bot fetch all of a source that streams as soon as that is known to be needed."""
    if task.streamed:
        raise NeedsWholeSource(str(why)) from why


def plan(task: BuildTask, target: Target, report: Reporter) -> Json:
    """Export a target with stand-ins for its weights; return the plan of its data file, or None if it failed alone.

    To be called once in a process. Raises NotCovered.
    """
    stop = prepare(task)
    from bot.formats.openvino.worker.graph import StandInExport  # these import torch and OpenVINO
    from bot.formats.openvino.worker.plan import to_json

    source, variant = Path(task.source), target.variant
    report.progress(f"exporting {variant.short_name}", 0, 0, "tensors")

    def planned() -> Json:
        planning = StandInExport(
            _mapped(task, report),
            compresses=variant.options["weight_format"] not in ("fp16", "fp32"),
            mixer=mixer_with(task, report) if variant.options.get(OPTION) else None,
        )
        with planning.patched():
            export(source, target, stop)
        chosen = planning.chosen
        return to_json(planning.constants) | {"types_by_cost": chosen.to_json() if chosen is not None else None}

    return attempt(planned, target, source, report)


def _write(task: BuildTask, planned: list[_Planned], report: Reporter) -> Left:
    """Write the data of what was planned; return what has to be left after all."""
    if not planned:
        return []
    from bot.formats.openvino.worker.compress import NncfCompression  # it imports nncf
    from bot.formats.openvino.worker.plan import from_json
    from bot.formats.openvino.worker.writing import DataFile, write

    def file_of(p: _Planned, solver: SolverAtWork | None) -> DataFile:
        return DataFile(
            constants=tuple(from_json(p.plan, partial(NncfCompression.from_json, solver=solver))),
            xml=Path(p.target.out) / "openvino_model.xml",
            folder=Path(p.target.partial or tempfile.mkdtemp(dir=task.scratch)),
            solver=solver,
        )

    what = "writing " + ", ".join(p.target.variant.short_name for p in planned)
    lost: dict[int, Exception] = {}

    def lose(number: int, error: Exception) -> None:
        if isinstance(error, NotCovered):
            _require_whole(task, error)
        lost[number] = error

    with solver_of(task) as solver:
        files = [file_of(p, at_work_on(p.target.variant, solver)) for p in planned]
        hashed = write(files, _mapped(task, report), partial(report.progress, what, unit="bytes"), lose)
    if made := [number for number in range(len(planned)) if number not in lost]:
        solved = {planned[n].target.variant.name: f.solver.done for n in made if (f := files[n]).solver is not None}
        types = {planned[n].target.variant.name: planned[n].plan["types_by_cost"] for n in made}
        chosen = {name: TypesByCost.from_json(found) for name, found in types.items() if found is not None}
        report.built_together([planned[n].target for n in made], hashed, solved, chosen)
    left: Left = []
    for number, error in lost.items():
        target = planned[number].target
        empty(target)
        if isinstance(error, NotCovered):
            shutil.rmtree(files[number].folder)  # nobody will go on with it
            left.append((target, str(error)))
        else:
            failed(target, error, report)
    return left


def _mapped(task: BuildTask, report: Reporter) -> Mapped:
    return Mapped(Path(task.source), Feed(report) if task.streamed else None)
