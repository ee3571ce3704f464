"""MLX: mlx-lm converts and quantizes. What it then makes of the files is in artifact.py and runtime.py."""

from pathlib import Path

from bot.formats.mlx.worker import cpu, lean, model
from bot.records.artifacts import Json, Variant
from bot.records.tasks import BuildTask
from bot.worker.calibrated import left_out
from bot.worker.checkpoint import forbid_remote_code, weight_types
from bot.worker.disk import disk_full
from bot.worker.fast import take
from bot.worker.harness import Foreseen, Reporter, error_line


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that mlx-lm loads. One that cannot be written so fails alone.

    Raises NotTaken when mlx-lm cannot read the model, SourceProblem, and OSError when the disk fills up.
    """
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    weight_types(Path(task.source))
    cpu.prepare()
    source = model.with_older_keys(Path(task.source), Path(task.scratch) / "source")
    take(task, report, lambda: lean.build(task, source, report), lambda: _stock(task, source, report))


def _stock(task: BuildTask, source: Path, report: Reporter) -> None:
    for target in task.targets:
        out = Path(target.out)
        if left_out(target.variant, "mlx-lm", report):
            continue
        try:
            _convert(source, out, target.variant, report)
        except Foreseen:
            raise
        except Exception as error:
            full = disk_full(error, out)
            _empty(out)
            if full is not None:
                raise full from error
            report.failed(target.variant, f"mlx-lm failed: {error_line(error)}")
        else:
            report.built(target.variant)


def _convert(source: Path, out: Path, variant: Variant, report: Reporter) -> None:
    """Do what ``mlx_lm.convert`` does, tensor by tensor."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import save_model

    what = f"converting to {variant.short_name}"
    report.progress(what, 0, 0, "bytes")
    converted, config = model.lazy_model(source, variant)
    stop = model.checked_stop_ids(source)
    arrays = [array for _, array in tree_flatten(converted.parameters())]
    total, done = sum(a.nbytes for a in arrays), 0
    for array in arrays:
        mx.eval(array)
        done += array.nbytes
        report.progress(what, done, total, "bytes")
    del arrays
    report.progress(f"writing {variant.short_name}", 0, 0, "bytes")
    save_model(out, converted, donate_model=True)
    model.write_beside(source, out, config, stop)


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
