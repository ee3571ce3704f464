"""The rotary embeddings of an MLX model, as mlx-lm's own modules hold them."""

from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.mlx.worker.modules import modules_of
from bot.records.tasks import VerifyTask
from bot.worker.rotary import Rotary


def rotary(task: VerifyTask) -> Rotary:
    """Return the angles that mlx-lm turns queries and keys by.

    Of a LongRoPE model it has the long ones alone, which it takes at every position.
    """
    model = modules_of(Path(task.artifact))
    rope: Any = model.layers[0].self_attn.rope
    if hasattr(rope, "_freqs"):
        periods, scale = np.array(rope._freqs), float(rope._scale)  # noqa: SLF001 - it has no other names for them
        return Rotary(short=None, long=1.0 / periods, long_scale=scale)
    return Rotary(short=1.0 / rope.base ** (np.arange(0, rope.dims, 2) / rope.dims), short_scale=float(rope.scale))
