"""ONNX: onnxruntime-genai's model builder, in little memory where that is covered, else as it comes."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.formats.onnx.worker import runtime
from bot.formats.onnx.worker.builder import empty, run_builder, saving
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker.calibrated import left_out
from bot.worker.checkpoint import forbid_remote_code, weight_types
from bot.worker.disk import disk_full
from bot.worker.fast import leave_to_stock, take
from bot.worker.harness import Foreseen, Reporter, error_line
from bot.worker.tokens import read_tokenizer, stop_ids

_BY_BUILDER = ("NvTensorRtRtx",)  # execution providers whose weights are quantized into other nodes than MatMulNBits
_EPSILON = 1e-5  # of a Phi-2 whose config gives none, as transformers has it


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that onnxruntime-genai loads. One that the builder cannot make fails alone.

    Raises SourceProblem when the checkpoint is damaged, NotTaken when its tokenizer is not read here, and OSError when
    the disk fills up.
    """
    task = BuildTask.from_json(task_json)
    _keep_to_itself()
    tempfile.tempdir = task.scratch
    import torch

    torch.set_num_threads(task.threads)
    forbid_remote_code()
    source = Path(task.source)
    weight_types(source)
    stop = stop_ids(source, read_tokenizer(source))
    view = _as_the_builder_reads_it(source, Path(task.scratch) / "source")

    together, by_builder = _parted(task)

    def fast() -> None:
        from bot.formats.onnx.worker import lean  # it imports the whole toolchain

        lean.build(together, view, stop, report, failure)

    if together.targets:
        take(together, report, fast, lambda: _stock(together, view, stop, report))
    if by_builder.targets:
        leave_to_stock(by_builder, report, "the builder has quantized weights for TensorRT in other nodes")
        _stock(by_builder, view, stop, report)


def _parted(task: BuildTask) -> tuple[BuildTask, BuildTask]:
    """Return the task for the targets that are made together, and for those that the builder makes by itself alone."""
    alone = [t for t in task.targets if t.variant.options["execution_provider"] in _BY_BUILDER]
    return (
        replace(task, targets=tuple(t for t in task.targets if t not in alone)),
        replace(task, targets=tuple(alone)),
    )


def _stock(task: BuildTask, source: Path, stop: Sequence[int], report: Reporter) -> None:
    """Build the targets one after the other, as the builder's own command would."""
    for target in task.targets:
        if left_out(target.variant, "the builder", report):
            continue
        try:
            with saving(_counted(target, report)):
                run_builder(source, Path(task.scratch) / "cache", target, stop, report)
        except Foreseen:
            raise
        except Exception as error:
            full = disk_full(error, Path(target.out))
            empty(target)
            if full is not None:
                raise full from error
            report.failed(target.variant, failure(error))
        else:
            report.built(target.variant)


def failure(error: Exception) -> str:
    """Say in one line why the builder made no file."""
    return f"the builder failed: {error_line(error)}"


def _keep_to_itself() -> None:
    """Let the libraries send nothing, and take nothing from the machine into the files that they write."""
    runtime.send_nothing()
    # The builder asks git for the commit of its own repository and stamps it into the model. Where a toolchain lies
    # inside some other repository, that would be its commit; without one, the builder's release is named.
    os.environ["GIT_DIR"] = os.devnull


def _as_the_builder_reads_it(source: Path, view: Path) -> Path:
    """Return a folder with the checkpoint's files whose config the builder understands.

    transformers says in its code, not in the config, that all layers of a Phi-3 attend to a sliding window; without
    ``layer_types`` the builder lets them attend to everything. A Phi-3 without LongRoPE it knows by two equal lengths.
    The epsilon of all norms it reads by the name that Phi-3 has for it, and takes 1e-6 for a Phi-2.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    told = config | _left_unsaid(config)
    if told == config:
        return source
    view.mkdir()
    for file in source.iterdir():
        (view / file.name).symlink_to(file.resolve())
    (view / "config.json").unlink()
    (view / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return view


def _left_unsaid(config: dict[str, Json]) -> dict[str, Json]:
    if config.get("model_type") == "phi":
        epsilon = config.get("layer_norm_eps")
        return {"rms_norm_eps": _EPSILON if epsilon is None else epsilon}
    if config.get("model_type") != "phi3":
        return {}
    unsaid: dict[str, Json] = {}
    longest, window = config.get("max_position_embeddings", 0), config.get("sliding_window")
    if not (config.get("rope_scaling") or config.get("rope_parameters") or {}).get("long_factor"):
        unsaid["original_max_position_embeddings"] = longest
    if window and window < longest:
        unsaid["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]
    return unsaid


def _counted(target: Target, report: Reporter) -> Callable[..., Any]:
    """Return a way to save a graph that reports each tensor as it is written."""

    def save(own: Callable[..., Any], *arguments: Any, callback: Callable[[Any, Any], None], **options: Any) -> Any:
        def count(tensor: Any, at: Any) -> None:
            report.progress(f"writing {target.variant.short_name}", at.index + 1, at.total, "tensors")
            callback(tensor, at)

        return own(*arguments, callback=count, **options)

    return save
