"""GGUF by the tools as they are: the whole checkpoint becomes a file, and each variant is quantized from that file.

A checkpoint is converted once per job, in the type that its weights have.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.formats.gguf.worker.convert import STORED, file_of, kind_of, own_type, read_model, type_of
from bot.formats.gguf.worker.imatrix import ImportanceMatrix
from bot.formats.gguf.worker.quantize import quantize
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import left_out
from bot.worker.checkpoint import weight_types
from bot.worker.disk import out_of_space
from bot.worker.harness import Reporter

_QUANTIZED = re.compile(r"^\[ *(\d+)/ *(\d+)\] ")  # how the quantizer's log begins the line of a tensor


def build(task: BuildTask, report: Reporter, matrices: Mapping[str, ImportanceMatrix]) -> None:
    """Build each target, with the importance matrix of its variant if there is one. A refused type fails alone.

    Raises SourceProblem when the converter cannot read the model, and OSError when the disk fills up.
    """
    task = replace(task, targets=tuple(t for t in task.targets if not left_out(t.variant, "llama.cpp", report)))
    own = own_type(weight_types(Path(task.source)))
    base = Path(task.scratch) / f"{task.model_name}-{own}.gguf"
    quantized = [t for t in task.targets if type_of(t) not in STORED]
    unchanged = [t for t in task.targets if type_of(t) == own]
    cast = [t for t in task.targets if type_of(t) in STORED - {own}]
    try:
        if quantized or unchanged:
            _convert(task, own, base, report)
        for target in quantized:
            _quantize(task, target, base, report, matrices.get(target.variant.name))
        for target in unchanged:  # last: an output belongs to the bot as soon as it is reported
            base.rename(file_of(task, target))
            report.built(target.variant)
    finally:
        base.unlink(missing_ok=True)
    for target in cast:
        _convert(task, type_of(target), file_of(task, target), report)
        report.built(target.variant)


def _convert(task: BuildTask, kind: str, out: Path, report: Reporter) -> None:
    """Write the checkpoint as a GGUF file of one of the stored types."""
    what = f"converting to {kind}"
    report.progress(what, 0, 0, "tensors")
    try:
        writer = read_model(task, kind, out)
        tensors = [t for shard in writer.tensors for t in shard.values()]
        total = sum(t.nbytes for t in tensors)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            report.progress(what, done, total, "bytes")

        for tensor in tensors:
            tensor.tensor = _Counted(tensor.tensor, count)
        try:
            writer.write_header_to_file(path=out)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        except OSError as error:  # numpy names the lack of space, but not its number
            raise out_of_space(out.parent, total - done) or error from error
    except BaseException:
        out.unlink(missing_ok=True)
        raise


class _Counted:
    """A tensor that says so when it is written."""

    def __init__(self, tensor: Any, count: Any) -> None:
        self._tensor, self._count = tensor, count
        self.nbytes: int = tensor.nbytes

    def tofile(self, file: Any) -> None:
        self._tensor.tofile(file)
        self._count(self.nbytes)


def _quantize(task: BuildTask, target: Target, base: Path, report: Reporter, matrix: ImportanceMatrix | None) -> None:
    kind, out = type_of(target), file_of(task, target)

    def count(line: str) -> None:
        if found := _QUANTIZED.match(line):
            report.progress(f"quantizing to {kind}", int(found[1]), int(found[2]), "tensors")

    refused = quantize(base, out, kind, threads=task.threads, each=count, matrix=matrix)
    if refused is None:
        report.built(target.variant)
        return
    full = out_of_space(out.parent)
    out.unlink(missing_ok=True)
    if full is not None:
        raise full
    report.failed(target.variant, refused, kind=kind_of(refused))
