"""Running onnxruntime-genai's model builder for one target, and following what it says."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.records.tasks import Target
from bot.worker.harness import Reporter
from bot.worker.tokens import with_stop_ids

_EXTRA = {
    "hf_token": "false",  # no token is sent and no code of the model's is run, whatever the builder's defaults become
    "hf_remote": "false",
    # A cache no longer than the sliding window fails in the runtime as soon as max_length is below the window.
    "windowed_kv_cache": "false",
}


def extra_options(target: Target) -> dict[str, Json]:
    """Return a target's options for the builder, beside the precision and the execution provider."""
    own: dict[str, Json] = target.variant.options.get("extra_options", {})
    return _EXTRA | own


def run_builder(source: Path, cache: Path, target: Target, stop: Sequence[int], report: Reporter) -> None:
    """Let the builder make all files of a target. Raises whatever it raises, with what it had made left behind."""
    from onnxruntime_genai.models import builder

    options = target.variant.options
    arguments = (None, str(source), target.out, options["precision"], options["execution_provider"], str(cache))
    what = f"building {target.variant.short_name}"
    report.progress(what, 0, 0, "layers")
    layers = _layers(source)

    def printed(line: str) -> None:
        if found := re.match(r"Reading layer (\d+)", line):
            report.progress(what, int(found[1]) + 1, layers, "layers")

    with redirect_stdout(_Lines(printed)):
        prepared = builder.parse_extra_options(*arguments, [f"{k}={v}" for k, v in extra_options(target).items()])
        builder.create_model(*arguments, **prepared)
    shutil.rmtree(cache, ignore_errors=True)
    _add_stop_ids(Path(target.out) / "genai_config.json", stop)


@contextmanager
def saving(instead: Callable[..., Any]) -> Iterator[None]:
    """Let the builder call ``instead`` to save a graph: with onnx_ir's own function, and what it would be given."""
    import onnx_ir

    save = onnx_ir.save
    onnx_ir.save = lambda *arguments, **options: instead(save, *arguments, **options)
    try:
        yield
    finally:
        onnx_ir.save = save


def empty(target: Target) -> None:
    """Remove what was made of a target."""
    for file in Path(target.out).iterdir():
        file.unlink()


def _add_stop_ids(path: Path, ids: Sequence[int]) -> None:
    """Make the runtime stop at each of ``ids``: the builder leaves out what only the chat template tells."""
    config = json.loads(path.read_text(encoding="utf-8"))
    given = config["model"]["eos_token_id"]
    wanted = with_stop_ids(given, ids)
    if wanted != with_stop_ids(given, ()):
        config["model"]["eos_token_id"] = wanted
        path.write_text(json.dumps(config, indent=4), encoding="utf-8")


def read_config(source: Path) -> dict[str, Json]:
    """Return what config.json says."""
    config: dict[str, Json] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return config


def _layers(source: Path) -> int:
    return int(read_config(source).get("num_hidden_layers", 0))


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
