"""Weights inside a PyTorch file: a wrong scale is named in rows of 8 bits too, whose levels are too fine to tell."""

from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.controls.artifacts import LARGER_SCALE
from tests.formats.torch.hooks import HOOKS
from tests.worker.running import Built, copy_of, wrong_weights

pytestmark = pytest.mark.toolchain

W8A8 = catalogue.all_variants()["torch/w8a8"]


def test_a_scale_of_8_bits_that_is_a_twentieth_too_large_is_found(
    torch_files: Built, sample: Path, tmp_path: Path
) -> None:
    toolchain, artifact = ensure("torch", Silent()), copy_of(torch_files.folders[W8A8.name], tmp_path / "artifact")
    assert wrong_weights(toolchain, artifact, W8A8, sample, tmp_path / "healthy") == ""
    HOOKS.faults[LARGER_SCALE](artifact)
    found = wrong_weights(toolchain, artifact, W8A8, sample, tmp_path / "faulty")
    assert ".layers.1." in found
    assert "times the source's" in found
