"""optimum-intel's export: what its command line is given, and what is put right in the files that it leaves."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bot.formats.openvino.worker.files import MODELS, TOKENIZER_FILES
from bot.formats.openvino.worker.runtime import send_nothing
from bot.records.artifacts import Json, Variant
from bot.records.tasks import BuildTask, Target
from bot.worker.checkpoint import forbid_remote_code, shards, weight_types
from bot.worker.disk import disk_full
from bot.worker.fast import NotCovered
from bot.worker.harness import Foreseen, Reporter, error_line
from bot.worker.tokens import read_tokenizer, stop_ids, with_stop_ids


def prepare(task: BuildTask) -> Sequence[int]:
    """Make this process ready to export; return the ids at which a model stops.

    Raises SourceProblem when the checkpoint is damaged, and NotTaken when its tokenizer is not read here.
    """
    send_nothing()
    tempfile.tempdir = task.scratch
    import torch

    torch.set_num_threads(task.threads)
    forbid_remote_code()
    _keep_spaces()
    source = Path(task.source)
    weight_types(source)
    return stop_ids(source, read_tokenizer(source))


def export(source: Path, target: Target, stop: Sequence[int]) -> None:
    """Run the export, in a process that is ready for it. Raises what the toolchain does."""
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


def attempt(make: Callable[[], Json], target: Target, source: Path, report: Reporter) -> Json:
    """Return what ``make`` does, or None where the target fails alone of what the toolchain raised.

    Leaves nothing of it then. Raises OSError where the disk is behind that, and passes on Foreseen and NotCovered.
    """
    try:
        return make()
    except Exception as error:
        full = disk_full(error, Path(target.out), _wanted(error, source))
        empty(target)
        if full is not None:
            raise full from error
        if isinstance(error, Foreseen | NotCovered):
            raise
        failed(target, error, report)
        return None


def failed(target: Target, error: Exception, report: Reporter) -> None:
    """Report that a target failed of what the toolchain raised."""
    report.failed(target.variant, f"the export failed: {error_line(error)}")


def empty(target: Target) -> None:
    """Remove what there is of a target."""
    for file in Path(target.out).iterdir():
        file.unlink()


def _keep_spaces() -> None:
    """Make a detokenizer that takes no space out of a text, whatever the source's tokenizer asks for.

    A space before punctuation is part of the tokens, and of code; openvino-tokenizers even takes those before a
    backslash. transformers ignores that old setting too, from version 5.7 on.
    """
    import openvino_tokenizers

    convert = openvino_tokenizers.convert_tokenizer
    openvino_tokenizers.convert_tokenizer = partial(convert, clean_up_tokenization_spaces=False)


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
