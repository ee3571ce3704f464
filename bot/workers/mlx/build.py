"""MLX: mlx-lm converts and quantizes. What it then makes of the files is in artifact.py and runtime.py."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bot.records import CONTENT_FILES, Json, Variant
from bot.tasks import BuildTask
from bot.workers.checkpoint import forbid_remote_code, weight_types
from bot.workers.disk import out_of_space
from bot.workers.harness import Reporter, SourceProblem
from bot.workers.mlx import cpu
from bot.workers.tokens import stop_ids, with_stop_ids

_TYPES = ("float16", "bfloat16", "float32")


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as a folder that mlx-lm loads. One that cannot be written so fails alone.

    Raises SourceProblem when mlx-lm cannot read the model, and OSError when the disk fills up.
    """
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    weight_types(Path(task.source))
    cpu.prepare()
    source = _with_older_keys(Path(task.source), Path(task.scratch) / "source")
    for target in task.targets:
        out = Path(target.out)
        try:
            _build(source, out, target.variant, report)
        except SourceProblem:
            raise
        except Exception as error:
            full = out_of_space(out)
            _empty(out)
            if full is not None:
                raise full from error
            report.failed(target.variant, f"mlx-lm failed: {_one_line(error)}")
        else:
            report.built(target.variant)


def _build(source: Path, out: Path, variant: Variant, report: Reporter) -> None:
    """Do what ``mlx_lm.convert`` does, tensor by tensor, and write no card and no code."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load, quantize_model, save_config, save_model

    what = f"converting to {variant.short_name}"
    report.progress(what, 0, 0, "bytes")
    try:
        model, tokenizer, config = load(str(source), lazy=True, return_config=True)
    except Exception as error:
        raise SourceProblem(f"mlx-lm does not take the model: {_one_line(error)}") from error
    stop = stop_ids(source, tokenizer)
    kind = variant.options.get("dtype", config.get("torch_dtype"))
    if kind in _TYPES:
        model.set_dtype(getattr(mx, kind))
    if "bits" in variant.options:
        model, config = quantize_model(model, config, variant.options["group_size"], variant.options["bits"])
    arrays = [array for _, array in tree_flatten(model.parameters())]
    total, done = sum(a.nbytes for a in arrays), 0
    for array in arrays:
        mx.eval(array)
        done += array.nbytes
        report.progress(what, done, total, "bytes")
    del arrays
    report.progress(f"writing {variant.short_name}", 0, 0, "bytes")
    save_model(out, model, donate_model=True)
    save_config(_stopping_at(config, stop), out / "config.json")
    # The source's own files, not what transformers makes of them: that loads only in its newest versions.
    for name in sorted(CONTENT_FILES - {"config.json"}):
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    generation = source / "generation_config.json"
    if generation.exists():  # what it says of stopping counts more than config.json
        given = json.loads(generation.read_text(encoding="utf-8"))
        wanted = _stopping_at(given, stop)
        if wanted != given:
            (out / generation.name).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def _stopping_at(config: dict[str, Json], ids: Sequence[int]) -> dict[str, Json]:
    """Return a config whose ``eos_token_id`` has all of the ids; the same one where it had them."""
    given = config.get("eos_token_id")
    wanted = with_stop_ids(given, ids)
    return config if wanted == with_stop_ids(given, ()) else config | {"eos_token_id": wanted}


def _with_older_keys(source: Path, view: Path) -> Path:
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


def _older_keys(config: dict[str, Json]) -> dict[str, Json]:
    settings = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(settings, dict):
        return {}
    kind = settings.get("type", settings.get("rope_type", "default"))
    moved = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
    older = {key: settings[key] for key in moved if key in settings and key not in config}
    return older | {"rope_scaling": None if kind == "default" else settings | {"type": kind}}


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
