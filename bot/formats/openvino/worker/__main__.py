"""The worker of OpenVINO: build, and verify."""

from functools import partial

from bot.formats.openvino.worker.build import build, plan, stock
from bot.formats.openvino.worker.constants import constants
from bot.formats.openvino.worker.files import inspect
from bot.formats.openvino.worker.rotary import rotary
from bot.formats.openvino.worker.runtime import load
from bot.formats.openvino.worker.weights import arithmetic, stored
from bot.worker import measure
from bot.worker.harness import main

if __name__ == "__main__":
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    main({"build": build, "plan": plan, "stock": stock, "verify": partial(measure.verify, hooks=hooks)})
