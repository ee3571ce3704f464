"""The modules that mlx-lm makes of an artifact, to look into."""

from pathlib import Path
from typing import Any

from bot.formats.mlx.worker import cpu
from bot.worker.checkpoint import forbid_remote_code


def modules_of(artifact: Path) -> Any:
    """Return mlx-lm's model of a folder. Its weights are read when they are asked for; no code of the folder is run."""
    from mlx_lm.utils import load_model

    forbid_remote_code()
    cpu.prepare()
    model, _ = load_model(artifact, lazy=True)
    return model
