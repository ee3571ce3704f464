"""What the worker of ONNX does: build, and verify."""

from bot.records import Json
from bot.tasks import VerifyTask
from bot.workers import measure
from bot.workers.harness import Reporter, main
from bot.workers.onnx.build import build
from bot.workers.onnx.files import inspect
from bot.workers.onnx.rotary import rotary
from bot.workers.onnx.runtime import find_device, load, send_nothing
from bot.workers.onnx.weights import stored


def verify(task_json: Json, report: Reporter) -> Json:
    """Measure an artifact, as measure.verify. Raises RuntimeError where there is no device that it was built for."""
    send_nothing()
    find_device(VerifyTask.from_json(task_json).variant)
    means = measure.Means(inspect=inspect, load=load, stored=stored, rotary=rotary)
    return measure.verify(task_json, report, means)


if __name__ == "__main__":
    main({"build": build, "verify": verify})
