"""The worker of ONNX: build, and verify."""

from bot.formats.onnx.worker.build import build
from bot.formats.onnx.worker.constants import constants
from bot.formats.onnx.worker.files import inspect
from bot.formats.onnx.worker.rotary import rotary
from bot.formats.onnx.worker.runtime import device_for, load, send_nothing
from bot.formats.onnx.worker.weights import arithmetic, stored
from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.worker import measure
from bot.worker.harness import Reporter, main


def verify(task_json: Json, report: Reporter) -> Json:
    """Measure an artifact, as measure.verify, and say the ``device`` where that is not what it was built for.

    Raises RuntimeError where there is no device that it can be verified on.
    """
    send_nothing()
    variant = VerifyTask.from_json(task_json).variant
    device = device_for(variant)
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    measured: dict[str, Json] = measure.verify(task_json, report, hooks)
    return measured | {"device": "" if device == variant.target else device}


if __name__ == "__main__":
    main({"build": build, "verify": verify})
