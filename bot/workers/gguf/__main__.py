"""What the worker of GGUF does: build, verify, and measure the importance of weights."""

from functools import partial

from bot.workers import measure
from bot.workers.gguf.build import build
from bot.workers.gguf.file import inspect
from bot.workers.gguf.importance import measure as importance
from bot.workers.gguf.rotary import rotary
from bot.workers.gguf.runtime import load
from bot.workers.gguf.weights import stored
from bot.workers.harness import main

if __name__ == "__main__":
    means = measure.Means(inspect=inspect, load=load, stored=stored, rotary=rotary)
    main({"build": build, "verify": partial(measure.verify, means=means), "importance": importance})
