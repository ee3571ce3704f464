"""Files of the real model, calibrated on all of the text: what they cost, and how many bytes they have."""

from functools import partial
from pathlib import Path

import pytest

from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from tests.shared import make_once
from tests.worker.running import build, collect_moments, distances, failures, find_sensitivities, measure


def cost_and_size(
    toolchain: Toolchain, variant: Variant, model: Path, reference: Path, factory: pytest.TempPathFactory
) -> tuple[float, int]:
    """Build a variant of the real model; return its mean KL in its own runtime, and the bytes of all its files."""
    moments, costs = (
        make_once(factory, f"real {what}", partial(find, model, characters=10**9))
        for what, find in (("moments", collect_moments), ("costs", find_sensitivities))
    )
    folder = factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.worker.running.moments_of", lambda _: str(moments / "moments"))
        patched.setattr("tests.worker.running.sensitivities_of", lambda _: str(costs / "sensitivities"))
        built = build(toolchain, model, [variant], folder / "job", model="real", log=folder / "log")
    found = measure(toolchain, built.folders[variant.name], variant, model, reference, folder / "log")
    assert failures(found) == {}
    return distances(found)["short"].figures.mean_kl, sum(map(len, built.files(variant.name).values()))
