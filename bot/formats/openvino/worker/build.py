"""OpenVINO: optimum-intel exports, and nncf compresses the weights. See runtime.py for running."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bot.formats.openvino.worker import lean
from bot.formats.openvino.worker.export import attempt, export, prepare
from bot.records.artifacts import Json, Variant
from bot.records.tasks import BuildTask
from bot.worker.calibrated import left_out
from bot.worker.fast import NotCovered, alone, leave_to_stock
from bot.worker.harness import Reporter
from bot.worker.isolated import run_alone


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that openvino-genai and optimum-intel load.

    One that the toolchain cannot make fails alone. Raises SourceProblem when the checkpoint or its tokenizer cannot be
    read, OSError when the disk fills up, and NeedsWholeSource when a source streams that only the stock path can read.
    """
    task = BuildTask.from_json(task_json)
    if task.stock:
        left = [(target, "as asked for") for target in task.targets]
    else:
        with alone(task):
            left = lean.build(task, report)
    for target, reason in left:
        leave_to_stock(task, report, reason)
        run_alone(lean.MODULE, "stock", task, target, report)


def plan(task_json: Json, report: Reporter) -> Json:
    """Plan the one target of a task; see lean.py. None if it failed."""
    task = BuildTask.from_json(task_json)
    (target,) = task.targets
    try:
        return {"planned": lean.plan(task, target, report)}
    except NotCovered as why:
        return {"refused": str(why)}


def stock(task_json: Json, report: Reporter) -> None:
    """Build the one target of a task as the toolchain itself does. Raises as ``build`` does."""
    task = BuildTask.from_json(task_json)
    (target,) = task.targets
    if left_out(target.variant, "optimum-intel", report):
        return
    stop = prepare(task)
    report.progress(f"exporting {target.variant.short_name}", 0, 0, "tensors")

    def exported() -> None:
        with _followed(target.variant, report):
            export(Path(task.source), target, stop)
        report.built(target.variant)

    attempt(exported, target, Path(task.source), report)


@contextmanager
def _followed(variant: Variant, report: Reporter) -> Iterator[None]:
    """Report the tensors as nncf compresses them."""
    from nncf.common.logging.track_progress import track

    each = track.__iter__

    def counted(self: Any) -> Iterator[Any]:
        total = len(self.sequence) if hasattr(self.sequence, "__len__") else 0
        for number, item in enumerate(each(self)):
            report.progress(f"compressing {variant.short_name}", number, total, "tensors")
            yield item
        report.progress(f"compressing {variant.short_name}", total, total, "tensors")

    track.__iter__ = counted
    try:
        yield
    finally:
        track.__iter__ = each
