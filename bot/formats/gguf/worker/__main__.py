"""The worker of GGUF: build, verify, and measure the importance of weights."""

from functools import partial

from bot.formats.gguf.worker.build import build
from bot.formats.gguf.worker.constants import constants
from bot.formats.gguf.worker.file import inspect
from bot.formats.gguf.worker.importance import measure as importance
from bot.formats.gguf.worker.rotary import rotary
from bot.formats.gguf.worker.runtime import load
from bot.formats.gguf.worker.weights import arithmetic, stored
from bot.worker import measure
from bot.worker.harness import main

if __name__ == "__main__":
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    main({"build": build, "verify": partial(measure.verify, hooks=hooks), "importance": importance})
