"""GGUF, building: llama.cpp's own converter and quantizer. ``runtime`` runs what they make.

All three are of one llama.cpp, the one in the source archive of llama-cpp-python: the toolchain keeps the converter
(``convert_hf_to_gguf.py`` and its packages) in ``src/llama.cpp`` beside its ``bin``.
"""

import logging
from functools import partial

from bot.records import Json
from bot.tasks import BuildTask
from bot.workers import fast
from bot.workers.checkpoint import forbid_remote_code
from bot.workers.gguf import direct, stock
from bot.workers.harness import Reporter


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as one ``MODEL-TYPE.gguf``. A type that the quantizer refuses fails alone.

    Raises SourceProblem when the converter cannot read the model, OSError when the disk fills up, and NeedsWholeSource
    when a source streams that only the stock path can read.
    """
    logging.basicConfig(level=logging.INFO)
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    fast.take(task, report, fast=partial(direct.build, task, report), stock=partial(stock.build, task, report))
