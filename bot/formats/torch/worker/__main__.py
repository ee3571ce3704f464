"""The worker of PyTorch: build, and verify."""

from functools import partial

from bot.formats.torch.worker.artifact import arithmetic, constants, inspect, rotary, stored
from bot.formats.torch.worker.build import build
from bot.formats.torch.worker.runtime import load
from bot.worker import measure
from bot.worker.harness import main

if __name__ == "__main__":
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    main({"build": build, "verify": partial(measure.verify, hooks=hooks)})
