"""OpenVINO: optimum-intel exports, and nncf compresses the weights. See runtime.py for running."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bot.records import Json, Variant
from bot.tasks import BuildTask, Target
from bot.workers.checkpoint import forbid_remote_code, shards, weight_types
from bot.workers.disk import disk_full
from bot.workers.fast import NotCovered, require_versions, take
from bot.workers.feed import Feed
from bot.workers.harness import Reporter, SourceProblem
from bot.workers.isolated import build_each
from bot.workers.mapped import Mapped
from bot.workers.openvino.files import MODELS, TOKENIZER_FILES
from bot.workers.openvino.runtime import send_nothing
from bot.workers.tokens import read_tokenizer, stop_ids, with_stop_ids

PINNED = {  #: what the lean way was compared with: it leans on how these work inside
    "optimum-intel": "2.2.0",
    "optimum": "2.3.0",
    "transformers": "5.5.4",
    "nncf": "3.4.0",
    "openvino": "2026.4.1",
}

_MODULE = "bot.workers.openvino"


def build(task_json: Json, report: Reporter, *, again: bool = False) -> None:
    """Build each target as a folder that openvino-genai and optimum-intel load.

    One that the toolchain cannot make fails alone. Raises SourceProblem when the checkpoint or its tokenizer cannot be
    read, and OSError when the disk fills up. ``again`` takes the stock path without a word: a process in which the lean
    one gave up has counted what it made, and would give the nodes of the graph other names.
    """
    task = BuildTask.from_json(task_json)
    if len(task.targets) > 1:
        build_each(_MODULE, task, report)
        return
    send_nothing()
    tempfile.tempdir = task.scratch
    import torch

    torch.set_num_threads(task.threads)
    forbid_remote_code()
    _keep_spaces()
    source = Path(task.source)
    weight_types(source)
    stop = stop_ids(source, read_tokenizer(source))
    (target,) = task.targets
    stock = partial(_reported, target, source, report, partial(_build, source, target, stop, report))
    if again:
        stock()
        return
    lean = partial(_reported, target, source, report, partial(_build_lean, task, target, stop, report))
    take(task, report, lean, stock if task.stock else partial(build_each, _MODULE, task, report, command="again"))


def _reported(target: Target, source: Path, report: Reporter, make: Callable[[], None]) -> None:
    """Build a target and say what came of it. Raises NotCovered as ``make`` does, and what ``build`` raises."""
    try:
        make()
    except Exception as error:
        full = disk_full(error, Path(target.out), _wanted(error, source))
        _empty(Path(target.out))
        if full is not None:
            raise full from error
        if isinstance(error, SourceProblem | NotCovered):
            raise
        report.failed(target.variant, f"the export failed: {type(error).__name__}: {' '.join(str(error).split())}")
    else:
        report.built(target.variant)


def _keep_spaces() -> None:
    """Make a detokenizer that takes no space out of a text, whatever the source's tokenizer asks for.

    A space before punctuation is part of the tokens, and of code; openvino-tokenizers even takes those before a
    backslash. transformers ignores that old setting too, from version 5.7 on.
    """
    import openvino_tokenizers

    convert = openvino_tokenizers.convert_tokenizer
    openvino_tokenizers.convert_tokenizer = partial(convert, clean_up_tokenization_spaces=False)


def _build(source: Path, target: Target, stop: Sequence[int], report: Reporter) -> None:
    report.progress(f"exporting {target.variant.short_name}", 0, 0, "tensors")
    with _followed(target.variant, report):
        _export(source, target, stop)


def _build_lean(task: BuildTask, target: Target, stop: Sequence[int], report: Reporter) -> None:
    """Build a target with stand-ins for the weights, and write those afterwards. Raises NotCovered."""
    require_versions(PINNED)
    from bot.workers.openvino.graph import Planning  # these import torch and OpenVINO
    from bot.workers.openvino.writing import write

    source, out, variant = Path(task.source), Path(target.out), target.variant
    report.progress(f"exporting {variant.short_name}", 0, 0, "tensors")
    mapped = Mapped(source, Feed(report) if task.streamed else None)
    planning = Planning(mapped, compresses=variant.options["weight_format"] not in ("fp16", "fp32"))
    with planning.patched():
        _export(source, target, stop)
    half_written = Path(target.partial or Path(task.scratch, "partial"))
    what = f"writing {variant.short_name}"
    try:
        write(planning.constants, out / "openvino_model.xml", mapped, half_written, what, report)
    except NotCovered:
        shutil.rmtree(half_written)
        raise


def _export(source: Path, target: Target, stop: Sequence[int]) -> None:
    from optimum.commands import optimum_cli

    out = Path(target.out)
    sys.argv = _command(source, out, target.variant)
    optimum_cli.main()
    for name in MODELS:
        if not (out / f"{name}.xml").exists():  # a tokenizer that cannot be converted is only logged
            raise RuntimeError(f"{name}.xml was not written; the log says why")
    _add_stop_ids(out / "generation_config.json", stop)
    _forget_source(out / "openvino_config.json")
    # The source's own tokenizer files, not what transformers makes of them: that loads only in its newest versions.
    for name in TOKENIZER_FILES:
        (out / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)


def _command(source: Path, out: Path, variant: Variant) -> list[str]:
    """Return the command line of ``optimum-cli``, with every choice made that it would make by the model's name."""
    options = variant.options
    command = ["optimum-cli", "export", "openvino", "--model", str(source), "--library", "transformers"]
    command += ["--task", "text-generation-with-past", "--weight-format", options["weight_format"]]
    for key in ("group_size", "ratio"):
        if key in options:
            command += [f"--{key.replace('_', '-')}", str(options[key])]
    return [*command, *(["--sym"] if options.get("sym") else []), str(out)]


def _add_stop_ids(path: Path, ids: Sequence[int]) -> None:
    """Make the runtime stop at each of ``ids``, of which a source without generation_config.json names too few."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    config["eos_token_id"] = with_stop_ids(config.get("eos_token_id"), ids)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _forget_source(path: Path) -> None:
    """Take the folder that the source lay in out of what optimum-intel says of its quantization."""
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["quantization_config"]["tokenizer"] = None
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _wanted(error: Exception, source: Path) -> int:
    """Return how much free space would have been enough, in bytes, if the disk may be behind an error.

    OpenVINO says of a full disk only that a stream failed, and by then optimum has removed what was written. Exporting
    writes the weights once, in their own type or in float32, and half of them again when it compresses them.
    """
    return 2 * sum(f.stat().st_size for f in shards(source)) if "iostream error" in str(error) else 1


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


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
