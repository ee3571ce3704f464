"""What the worker of OpenVINO does: build, and verify."""

from functools import partial

from bot.workers import measure
from bot.workers.harness import main
from bot.workers.openvino.build import build, plan, stock
from bot.workers.openvino.files import inspect
from bot.workers.openvino.rotary import rotary
from bot.workers.openvino.runtime import load
from bot.workers.openvino.weights import stored

if __name__ == "__main__":
    means = measure.Means(inspect=inspect, load=load, stored=stored, rotary=rotary)
    main({"build": build, "plan": plan, "stock": stock, "verify": partial(measure.verify, means=means)})
