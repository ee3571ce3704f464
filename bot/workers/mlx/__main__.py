"""What the worker of MLX does: build, and verify."""

from functools import partial

from bot.workers import measure
from bot.workers.harness import main
from bot.workers.mlx.artifact import inspect, stored
from bot.workers.mlx.build import build
from bot.workers.mlx.rotary import rotary
from bot.workers.mlx.runtime import load

if __name__ == "__main__":
    means = measure.Means(inspect=inspect, load=load, stored=stored, rotary=rotary)
    main({"build": build, "verify": partial(measure.verify, means=means)})
