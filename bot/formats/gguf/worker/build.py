"""GGUF, building: llama.cpp's own converter and quantizer. ``runtime`` runs what they make.

All three are of one llama.cpp, the one in the source archive of llama-cpp-python: the toolchain keeps the converter
(``convert_hf_to_gguf.py`` and its packages) in ``src/llama.cpp`` beside its ``bin``.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from bot.formats.gguf.worker import direct, stock
from bot.formats.gguf.worker.imatrix import ImportanceMatrix
from bot.formats.gguf.worker.importance import read
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker import fast
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.harness import Reporter


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as one ``MODEL-TYPE.gguf``. A type that the quantizer refuses fails alone.

    Raises SourceProblem when the converter cannot read the model, OSError when the disk fills up, and NeedsWholeSource
    when a source streams that only the stock path can read.
    """
    logging.basicConfig(level=logging.INFO)
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    matrices = _matrices(task)
    for target in task.targets:
        if _takes_matrix(target) and target.variant.name not in matrices:
            report.failed(target.variant, "it takes an importance matrix, and none is given")
    todo = tuple(t for t in task.targets if not _takes_matrix(t) or t.variant.name in matrices)
    if todo:
        task = replace(task, targets=todo)
        ways = (partial(way.build, task, report, matrices) for way in (direct, stock))
        fast.take(task, report, *ways)


def _matrices(task: BuildTask) -> dict[str, ImportanceMatrix]:
    """Return the importance matrix of each variant that is built with one."""
    if not task.importance:
        return {}
    matrix = read(Path(task.importance))
    return {t.variant.name: matrix for t in task.targets if _takes_matrix(t)}


def _takes_matrix(target: Target) -> bool:
    return bool(target.variant.options.get("imatrix"))
