"""ONNX: onnxruntime-genai's model builder."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import Any

from bot.records import Json, Variant
from bot.tasks import BuildTask, Target
from bot.workers.checkpoint import forbid_remote_code, weight_types
from bot.workers.disk import disk_full
from bot.workers.harness import Reporter, SourceProblem
from bot.workers.onnx import runtime
from bot.workers.tokens import read_tokenizer, stop_ids, with_stop_ids

_EXTRA = {
    "hf_token": "false",  # no token is sent and no code of the model's is run, whatever the builder's defaults become
    "hf_remote": "false",
    # A cache no longer than the sliding window fails in the runtime as soon as max_length is below the window.
    "windowed_kv_cache": "false",
}


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that onnxruntime-genai loads. One that the builder cannot make fails alone.

    Raises SourceProblem when the checkpoint or its tokenizer cannot be read, and OSError when the disk fills up.
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
    source = _as_the_builder_reads_it(source, Path(task.scratch) / "source")
    for target in task.targets:
        try:
            _build(source, Path(task.scratch) / "cache", target, stop, report)
        except SourceProblem:
            raise
        except Exception as error:
            full = disk_full(error, Path(target.out))
            _empty(Path(target.out))
            if full is not None:
                raise full from error
            report.failed(target.variant, f"the builder failed: {type(error).__name__}: {' '.join(str(error).split())}")
        else:
            report.built(target.variant)


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
    if config.get("model_type") != "phi3":
        return {}
    unsaid: dict[str, Json] = {}
    longest, window = config.get("max_position_embeddings", 0), config.get("sliding_window")
    if not (config.get("rope_scaling") or config.get("rope_parameters") or {}).get("long_factor"):
        unsaid["original_max_position_embeddings"] = longest
    if window and window < longest:
        unsaid["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]
    return unsaid


def _build(source: Path, cache: Path, target: Target, stop: Sequence[int], report: Reporter) -> None:
    from onnxruntime_genai.models import builder

    options = target.variant.options
    arguments = (None, str(source), target.out, options["precision"], options["execution_provider"], str(cache))
    extra = _EXTRA | options.get("extra_options", {})
    what = f"building {target.variant.short_name}"
    report.progress(what, 0, 0, "layers")
    with _followed(what, target.variant, report, _layers(source)):
        prepared = builder.parse_extra_options(*arguments, [f"{k}={v}" for k, v in extra.items()])
        builder.create_model(*arguments, **prepared)
    shutil.rmtree(cache, ignore_errors=True)
    _add_stop_ids(Path(target.out) / "genai_config.json", stop)


def _add_stop_ids(path: Path, ids: Sequence[int]) -> None:
    """Make the runtime stop at each of ``ids``: the builder leaves out what only the chat template tells."""
    config = json.loads(path.read_text(encoding="utf-8"))
    given = config["model"]["eos_token_id"]
    wanted = with_stop_ids(given, ids)
    if wanted != with_stop_ids(given, ()):
        config["model"]["eos_token_id"] = wanted
        path.write_text(json.dumps(config, indent=4), encoding="utf-8")


def _layers(source: Path) -> int:
    return int(json.loads((source / "config.json").read_text(encoding="utf-8")).get("num_hidden_layers", 0))


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


# ---- progress ------------------------------------------------------------------------------------------------


@contextmanager
def _followed(what: str, variant: Variant, report: Reporter, layers: int) -> Iterator[None]:
    """Report the layers as the builder prints them, and the tensors as it writes them."""
    import onnx_ir

    save = onnx_ir.save

    def saved(*arguments: Any, callback: Callable[[Any, Any], None] | None = None, **options: Any) -> Any:
        def count(tensor: Any, at: Any) -> None:
            report.progress(f"writing {variant.short_name}", at.index + 1, at.total, "tensors")
            if callback is not None:
                callback(tensor, at)

        return save(*arguments, callback=count, **options)

    def printed(line: str) -> None:
        if found := re.match(r"Reading layer (\d+)", line):
            report.progress(what, int(found[1]) + 1, layers, "layers")

    onnx_ir.save = saved
    try:
        with redirect_stdout(_Lines(printed)):
            yield
    finally:
        onnx_ir.save = save


class _Lines(TextIOBase):
    """A stream that hands on whole lines, and passes all of it to standard error."""

    def __init__(self, each: Callable[[str], None]) -> None:
        self._each, self._rest = each, ""

    def write(self, text: str) -> int:
        os.write(2, text.encode())
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._each(line)
        return len(text)
