"""Checks before reading a checkpoint: no code of the model's can run, and its weights are whole."""

import json
from pathlib import Path
from typing import Any, NoReturn

from bot.worker.harness import NotTaken, SourceProblem

_INDEX = "model.safetensors.index.json"


def forbid_remote_code() -> None:
    """Make transformers unable to import Python code that a model folder or a repo brings.

    Call it before anything else imports transformers: converters ask for ``trust_remote_code=True`` in places. The
    staged source has no code and names none; this holds even if it did. Every way to such code, local or from the Hub,
    ends in one of the two functions replaced here: one copies a module file, the other imports it.
    """
    from transformers import dynamic_module_utils

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotTaken("the model asks to run code of its own, which is never done")

    dynamic_module_utils.get_cached_module_file = refuse
    dynamic_module_utils.get_class_in_module = refuse


def shards(source: Path) -> list[Path]:
    """Return the safetensors files that hold a checkpoint's weights, in the order of their names.

    Raises SourceProblem when there are none, or when the index names one that is missing or lies elsewhere.
    """
    found = sorted(source.glob("model*.safetensors"))
    if not found:
        raise SourceProblem("there are no weights: no model*.safetensors")
    index = source / _INDEX
    if index.exists():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceProblem(f"{_INDEX} is malformed: {type(error).__name__}: {error}") from error
        missing = sorted(str(n) for n in named - {p.name for p in found})
        if missing:
            raise SourceProblem(f"{_INDEX} names {', '.join(missing)}, which is not there")
    return found


def weight_types(source: Path) -> set[str]:
    """Return the types of a checkpoint's matrices, as safetensors name them (``BF16``, ``F16``, ``F32``).

    Reads headers only. Raises SourceProblem, naming the file, for a shard that is truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    types: set[str] = set()
    for shard in shards(source):
        try:
            with safe_open(shard, framework="numpy") as file:
                slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - it is not a dict
                types |= {s.get_dtype() for s in slices if len(s.get_shape()) > 1}
        except SafetensorError as error:
            raise SourceProblem(f"{shard.name} is damaged: {error}") from error
    return types
