"""ONNX in little memory: the builder makes its graphs without weights, and then they are written, tensor by tensor.

The builder holds a model several times over: 24 GB for 3.8 B parameters. What it leaves is the same to the byte here.
"""

import gc
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import onnx_ir

from bot.formats.onnx.worker import data, graph
from bot.formats.onnx.worker.builder import empty, extra_options, read_config, run_builder, saving
from bot.formats.onnx.worker.mix import OPTION, TypesByMixer
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import at_work_on, solver_with
from bot.worker.disk import disk_full
from bot.worker.fast import NotCovered, require_versions
from bot.worker.feed import Feed
from bot.worker.harness import Foreseen, Reporter
from bot.worker.mapped import Mapped
from bot.worker.mixing import Mix, mixer_with

PINNED = {
    "onnxruntime-genai": "0.18.0",
    "onnxruntime": "1.31.1",
    "onnx-ir": "1.1.0",
    "transformers": "5.23.0",
}

#: of the builder's extra options, those that the graphs here were compared with
_OPTIONS = {
    "hf_token",
    "hf_remote",
    "windowed_kv_cache",
    "algo_config",
    "matmul_mixed_precision",
    "is_symmetric",
    "block_size",
    "accuracy_level",
}


def build(
    task: BuildTask, source: Path, stop: Sequence[int], report: Reporter, say: Callable[[Exception], str]
) -> None:
    """Build all targets of a task with one read of its weights. ``source`` is the folder as the builder reads it.

    A target whose graph the builder cannot make fails alone, and ``say`` puts that into words. Raises NotCovered, and
    leaves nothing behind, where another version, model or option needs the builder itself.
    """
    require_versions(PINNED)
    _require_covered(task, source)
    # torch warns of memory that it must not write to, once for each tensor; nothing here writes to it.
    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    mapped = Mapped(Path(task.source), Feed(report) if task.streamed else None)
    files: list[data.DataFile] = []
    made: list[Target] = []
    mixes: dict[str, Mix] = {}
    failures: list[tuple[Target, str]] = []
    solver = solver_with(task, map)  # a chunk of rows has a thread of its own anyway
    try:
        for target in task.targets:
            try:
                at_work, types = at_work_on(target.variant, solver), _types(task, target, report)
                with graph.without_weights(mapped, types):
                    files.append(replace(_graph(task, source, target, stop, report), solver=at_work))
                made.append(target)
                if types is not None and types.mix is not None:
                    mixes[target.variant.name] = types.mix
            except (Foreseen, NotCovered):
                raise
            except Exception as error:
                if (full := disk_full(error, Path(target.out))) is not None:
                    raise full from error
                empty(target)
                failures.append((target, say(error)))
        for target, message in failures:
            report.failed(target.variant, message)
        hashed = data.write(files, mapped, task.threads, partial(report.progress, "writing", unit="bytes"))
    except BaseException:
        for target in task.targets:
            empty(target)
        raise
    solved = {t.variant.name: f.solver.done for t, f in zip(made, files, strict=True) if f.solver is not None}
    report.built_together(made, hashed, solved, {name: mix.said for name, mix in mixes.items()})


def _require_covered(task: BuildTask, source: Path) -> None:
    architectures = read_config(source).get("architectures")
    if architectures not in [[name] for name in graph.ARCHITECTURES]:
        raise NotCovered(f"the architecture is not {' or '.join(graph.ARCHITECTURES)}")
    for target in task.targets:
        if unknown := sorted(extra_options(target).keys() - _OPTIONS):
            raise NotCovered(f"{target.variant.short_name} has options that were not compared: {', '.join(unknown)}")


def _types(task: BuildTask, target: Target, report: Reporter) -> TypesByMixer | None:
    return TypesByMixer(mixer=mixer_with(task, report)) if target.variant.options.get(OPTION) else None


def _graph(task: BuildTask, source: Path, target: Target, stop: Sequence[int], report: Reporter) -> data.DataFile:
    """Let the builder make all files of a target but the data file; return what that will be."""
    planned: list[data.DataFile] = []

    def save(own: Callable[..., None], model: Any, path: str, *, external_data: str, **_: Any) -> None:
        initializers = _initializers(model, Path(path).parent, external_data)
        own(model, path)
        folder = Path(target.partial or tempfile.mkdtemp(dir=task.scratch))
        planned.append(
            data.DataFile(initializers=initializers, folder=folder, target=Path(path).with_name(external_data))
        )

    with saving(save):
        run_builder(source, Path(task.scratch) / "cache", target, stop, report)
    gc.collect()  # the graph refers to itself in circles, and holds tables of tens of megabytes
    return planned[0]


def _initializers(model: Any, folder: Path, name: str) -> tuple[data.PlacedInitializer, ...]:
    """Place a graph's initializers in the order in which onnx_ir would; the graph then says where they are."""
    placed = []
    at = 0
    for part in model.graphs():
        for value in part.initializers.values():
            tensor = value.const_value
            if tensor is None or not tensor.nbytes:
                continue
            placed.append(data.PlacedInitializer(tensor=tensor, begin=at, end=at + tensor.nbytes))
            value.const_value = onnx_ir.ExternalTensor(
                name, at, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=tensor.name, base_dir=folder
            )
            at += tensor.nbytes
    recipes = [recipe for recipe, _ in groupby(map(data.recipe_of, placed)) if recipe is not None]
    if len(recipes) != len(set(recipes)):
        raise NotCovered("the parts of one weight are not stored together")
    return tuple(placed)
