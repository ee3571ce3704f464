"""What formats need of a machine."""

import pytest

from bot import catalogue
from bot.formats.registry import all_formats

LINUX, ARM, MACOS, WINDOWS = ("linux", "x86_64"), ("linux", "arm64"), ("macos", "arm64"), ("windows", "x86_64")
NEEDS = {
    "gguf/q4_k_m": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/cpu-int4": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/cuda-int4": ((LINUX, WINDOWS), "nvidia"),
    "onnx/dml-int4": ((WINDOWS,), "none"),
    "onnx/webgpu-int4": ((), "none"),
    "openvino/int4": ((LINUX, WINDOWS), "none"),
    "mlx/4bit": ((MACOS, LINUX, ARM), "none"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_variant_needs_the_machines_its_files_are_proven_on(name: str) -> None:
    variant = catalogue.all_variants()[name]
    found = all_formats()[variant.format].needs(variant)
    assert (found.platforms, found.accelerator) == NEEDS[name]


def test_every_variant_but_those_of_browsers_has_a_machine() -> None:
    for variant in catalogue.all_variants().values():
        found = all_formats()[variant.format].needs(variant)
        assert bool(found.platforms) == (variant.target != "webgpu"), variant.name
