"""The files beside the weights: the source's own. They say how weights are quantized, too, and where answers end."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.formats.torch.worker.scheme import config_of
from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.worker.tokens import stopping_at


def write_beside(source: Path, out: Path, scheme: Any, stop: Sequence[int]) -> None:
    """Write all files of a model but its weights. Writes no card and no code.

    They are the source's own files, not what transformers makes of them: that loads only in its newest versions.
    """
    for name in sorted(CONTENT_FILES - {"config.json"}):
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    given = _read(source / "config.json")
    _write(out / "config.json", stopping_at(given, stop) | {"quantization_config": config_of(scheme)})
    generation = source / "generation_config.json"
    if generation.exists():  # what it says of stopping counts more than config.json
        said = _read(generation)
        if (wanted := stopping_at(said, stop)) != said:
            _write(out / generation.name, wanted)


def _read(path: Path) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(path: Path, config: dict[str, Json]) -> None:
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
