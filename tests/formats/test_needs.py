"""What formats need of a machine."""

import pytest

from bot import catalogue
from bot.formats.needs import is_read_past_switch, proving_device
from bot.formats.registry import all_formats

LINUX, ARM, MACOS, WINDOWS = ("linux", "x86_64"), ("linux", "arm64"), ("macos", "arm64"), ("windows", "x86_64")
NEEDS = {
    "gguf/q4_k_m": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/cpu-int4": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/cuda-int4": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/webgpu-int4": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "openvino/int4": ((LINUX, WINDOWS), "none"),
    "mlx/4bit": ((MACOS, LINUX, ARM), "none"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_variant_needs_the_machines_its_files_are_proven_on(name: str) -> None:
    variant = catalogue.all_variants()[name]
    found = all_formats()[variant.format].needs(variant)
    assert (found.platforms, found.accelerator) == NEEDS[name]


#: The same rows, where nothing stands in for their devices.
ALONE = {
    "onnx/cpu-int4": ((LINUX, ARM, MACOS, WINDOWS), "none"),
    "onnx/cuda-int4": ((LINUX, WINDOWS), "nvidia"),
    "onnx/dml-int4": ((WINDOWS,), "none"),
    "onnx/webgpu-int4": ((), "none"),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_variant_that_only_its_own_device_proves_needs_that(name: str, nothing_stands_in: None) -> None:
    variant = catalogue.all_variants()[name]
    found = all_formats()[variant.format].needs(variant)
    assert (found.platforms, found.accelerator) == ALONE[name]
    assert proving_device(variant) == variant.target


def test_every_variant_has_a_machine() -> None:
    for variant in catalogue.all_variants().values():
        assert all_formats()[variant.format].needs(variant).platforms, variant.name


def test_what_a_device_does_in_its_kernels_alone_is_not_read_on_another() -> None:
    past = {v.target for v in catalogue.all_variants().values() if is_read_past_switch(v)}
    assert {"cpu", "cuda", "webgpu"} <= past
    assert not {"dml", "trtrtx"} & past
