"""The worker of MLX: build, and verify."""

from functools import partial

from bot.formats.mlx.worker.artifact import arithmetic, inspect, stored
from bot.formats.mlx.worker.build import build
from bot.formats.mlx.worker.constants import constants
from bot.formats.mlx.worker.rotary import rotary
from bot.formats.mlx.worker.runtime import load
from bot.worker import measure
from bot.worker.harness import main

if __name__ == "__main__":
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    main({"build": build, "verify": partial(measure.verify, hooks=hooks)})
