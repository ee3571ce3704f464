"""The model as mlx-lm reads and quantizes it, with no weight computed yet; and the files beside the weights."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json, Variant
from bot.records.digests import CONTENT_FILES
from bot.worker.harness import Foreseen, NotTaken, error_line
from bot.worker.tokens import stop_ids, stopping_at

_TYPES = ("float16", "bfloat16", "float32")


def lazy_model(source: Path, variant: Variant) -> tuple[Any, dict[str, Json]]:
    """Return the model of a variant and its config, as ``mlx_lm.convert`` has them before it writes.

    Its parameters are MLX's promises: their shapes and types are known, and their values are read and computed when
    they are asked for. Raises NotTaken when mlx-lm cannot read the model.
    """
    import mlx.core as mx
    from mlx_lm.utils import load_model, quantize_model

    model, config = _accepted(lambda: load_model(source, lazy=True))
    if kind := dtype(variant, config):
        model.set_dtype(getattr(mx, kind))
    if "bits" in variant.options:
        model, config = quantize_model(model, config, variant.options["group_size"], variant.options["bits"])
    return model, config


def dtype(variant: Variant, config: dict[str, Json]) -> str | None:
    """Return the type that all weights are cast to first, as MLX calls it; None leaves each as it is stored."""
    kind = variant.options.get("dtype", config.get("torch_dtype"))
    return kind if kind in _TYPES else None


def checked_stop_ids(source: Path) -> list[int]:
    """Return the ids at which generating has to stop. Raises NotTaken when mlx-lm cannot read the tokenizer."""
    from mlx_lm.utils import load_tokenizer

    return stop_ids(source, _accepted(lambda: load_tokenizer(source)))


def write_beside(source: Path, out: Path, config: dict[str, Json], stop: Sequence[int]) -> None:
    """Write all files of a model but its weights and their index. Writes no card and no code.

    They are the source's own files, not what transformers makes of them: that loads only in its newest versions.
    """
    from mlx_lm.utils import save_config

    save_config(stopping_at(config, stop), out / "config.json")
    for name in sorted(CONTENT_FILES - {"config.json"}):
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    generation = source / "generation_config.json"
    if generation.exists():  # what it says of stopping counts more than config.json
        given = json.loads(generation.read_text(encoding="utf-8"))
        wanted = stopping_at(given, stop)
        if wanted != given:
            (out / generation.name).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def with_older_keys(source: Path, view: Path) -> Path:
    """Return a folder with the checkpoint's files whose config mlx-lm understands.

    mlx-lm reads a Phi's rope settings under the keys that Microsoft's configs have (``rope_scaling`` with a ``type``).
    transformers has called them differently since, and then mlx-lm would take its defaults, without a word.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    older = config | _older_keys(config)
    if older == config:
        return source
    view.mkdir()
    for file in source.iterdir():
        (view / file.name).symlink_to(file.resolve())
    (view / "config.json").unlink()
    (view / "config.json").write_text(json.dumps(older), encoding="utf-8")
    return view


def _accepted(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Foreseen:
        raise
    except Exception as error:
        raise NotTaken(f"mlx-lm does not take the model: {error_line(error)}") from error


def _older_keys(config: dict[str, Json]) -> dict[str, Json]:
    settings = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(settings, dict):
        return {}
    kind = settings.get("type", settings.get("rope_type", "default"))
    moved = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
    older = {key: settings[key] for key in moved if key in settings and key not in config}
    return older | {"rope_scaling": None if kind == "default" else settings | {"type": kind}}
