"""The rotary embeddings of an OpenVINO model: the part of it that turns positions into cosines and sines, run alone."""

from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.openvino.worker.runtime import send_nothing
from bot.records.tasks import VerifyTask
from bot.worker.rotary import Rotary

Array = Any  # numpy is not installed where mypy runs

_FAR = 1 << 20  # a position past any LongRoPE switch


def rotary(task: VerifyTask) -> Rotary:
    """Return the angles and scales that the model computes. Raises ValueError where it computes none."""
    send_nothing()
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": task.threads})
    model = core.read_model(Path(task.artifact) / "openvino_model.xml")
    ends = [_scaled(_only(model, kind)) for kind in ("Cos", "Sin")]
    part = openvino.Model(
        ends, [p for p in model.get_parameters() if p.get_friendly_name() == "position_ids"], "rotary"
    )
    compiled = core.compile_model(part, "CPU")
    short, short_scale = _angles(compiled, [1])
    long, long_scale = _angles(compiled, [1, _FAR])
    if np.allclose(short, long):
        return Rotary(short=short, short_scale=short_scale)
    return Rotary(short=short, long=long, short_scale=short_scale, long_scale=long_scale)


def _only(model: Any, kind: str) -> Any:
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == kind]
    if len(found) != 1:
        raise ValueError(f"the model has {len(found)} operations {kind}, where rotary embeddings take 1")
    return found[0]


def _scaled(node: Any) -> Any:
    """Return what becomes of a cosine or a sine once it is scaled: by a number, or one for each side of a switch."""
    (after,) = (target.get_node() for target in node.output(0).get_target_inputs())
    return after.output(0) if after.get_type_name() == "Multiply" else node.output(0)


def _angles(compiled: Any, positions: list[int]) -> tuple[Array, float]:
    """Return the angles at position 1, of which none is more than a radian, and the scale."""
    cosine, sine = (
        value[0, 0].astype(np.float64) for value in compiled([np.array([positions], dtype=np.int64)]).to_tuple()
    )
    half = len(cosine) // 2  # both halves of a head turn by the same angles
    return np.arctan2(sine, cosine)[:half], float(np.hypot(sine, cosine).mean())
