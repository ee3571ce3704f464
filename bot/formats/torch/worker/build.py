"""PyTorch: compressed-tensors quantizes. What transformers then makes of the files is in artifact.py and runtime.py."""

from collections.abc import Sequence
from pathlib import Path

from bot.formats.torch.worker import lean, stock
from bot.formats.torch.worker.beside import write_beside
from bot.formats.torch.worker.scheme import scheme_of
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask
from bot.worker.calibrated import left_out
from bot.worker.checkpoint import forbid_remote_code, weight_types
from bot.worker.disk import disk_full
from bot.worker.fast import take
from bot.worker.harness import Foreseen, Reporter, error_line
from bot.worker.tokens import read_tokenizer, stop_ids


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that transformers loads. One that cannot be written so fails alone.

    Raises NotTaken when transformers cannot read the model, SourceProblem, and OSError when the disk fills up.
    """
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    source = Path(task.source)
    weight_types(source)
    stop = stop_ids(source, read_tokenizer(source))
    take(task, report, lambda: lean.build(task, stop, report), lambda: _stock(task, stop, report))


def _stock(task: BuildTask, stop: Sequence[int], report: Reporter) -> None:
    for target in task.targets:
        out = Path(target.out)
        if left_out(target.variant, "compressed-tensors", report):
            continue
        try:
            report.progress(f"converting to {target.variant.short_name}", 0, 0, "bytes")
            scheme = scheme_of(target.variant)
            stock.write_weights(Path(task.source), out, scheme)
            write_beside(Path(task.source), out, scheme, stop)
        except Foreseen:
            raise
        except Exception as error:
            full = disk_full(error, out)
            _empty(out)
            if full is not None:
                raise full from error
            report.failed(target.variant, f"compressed-tensors failed: {error_line(error)}")
        else:
            report.built(target.variant)


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
