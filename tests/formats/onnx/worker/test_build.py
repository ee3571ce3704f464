"""ONNX, whole: every row is built from the sample by the model builder, and measured in onnxruntime-genai."""

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.errors import BuildError, FormatRefusedError
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.alike import (
    assert_a_missing_tokenizer_is_named,
    assert_fails_alone,
    assert_generate_the_same,
    assert_nothing_is_kept_at_home,
    assert_nothing_of_the_machine_is_in,
    assert_predicts_what_the_original_does,
    assert_truncated_weights_are_named,
    assert_verified_greedily,
)
from tests.worker.limits import on_full_disk
from tests.worker.running import Built, Measured, assert_proven, build, copy_of, measure, rows, run_python

pytestmark = pytest.mark.toolchain

ROWS = rows("onnx")
RUN_HERE = [v for v in ROWS if v.target == "cpu"]
INT4, INT8, FP32 = (catalogue.all_variants()[f"onnx/cpu-{p}"] for p in ("int4", "int8", "fp32"))

# Mean KL, in nats per token, on the sample: about twice what was measured, on the larger of the two sides.
BOUNDS = {"cpu-int4": 0.02, "cpu-int4-mixed": 0.006, "cpu-int8": 0.0003, "cpu-fp32": 0.00001}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


@pytest.fixture
def built(onnx_files: Built) -> Built:
    return onnx_files


def test_one_job_builds_every_row_for_every_device(built: Built) -> None:
    assert not built.failures
    assert built.names == [v.name for v in ROWS]
    for variant in ROWS:
        assert {
            "genai_config.json",
            "model.onnx",
            "model.onnx.data",
            "tokenizer.json",
            "tokenizer_config.json",
        } <= built.files(variant.name).keys()


def test_nothing_of_the_machine_is_in_the_files(built: Built, sample: Path) -> None:
    assert_nothing_of_the_machine_is_in(built, sample)


def test_progress_counts_the_layers_that_are_read_and_the_bytes_that_are_written(built: Built) -> None:
    for variant in ROWS:
        read = [e for e in built.progress if e["what"] == f"building {variant.short_name}"][-1]
        assert (read["done"], read["total"], read["unit"]) == (4, 4, "layers")
    written = [e for e in built.progress if e["what"] == "writing"][-1]
    assert (written["done"], written["unit"]) == (written["total"], "bytes")
    assert built.notes == ["Stock path: the builder has quantized weights for TensorRT in other nodes"]
    streamed = [built.folders[v.name] for v in ROWS if v.target != "trtrtx"]  # that one the builder writes itself
    assert written["total"] == sum((folder / "model.onnx.data").stat().st_size for folder in streamed)


@pytest.mark.parametrize("variant", RUN_HERE, ids=lambda v: v.short_name)
def test_every_file_passes_all_checks_and_stays_near_the_original_on_both_sides_of_the_switch(
    built: Built, measured_of: Measured, variant: Variant
) -> None:
    measured = measured_of(built, variant)
    assert measured["runtime"] == "onnxruntime-genai 0.18.0"
    assert_proven(measured, BOUNDS[variant.short_name])


def test_in_8_bits_it_generates_the_same_as_the_unquantized_weights(built: Built, measured_of: Measured) -> None:
    assert_generate_the_same(measured_of(built, v) for v in (INT8, FP32))


def test_a_source_that_asks_for_sampling_is_verified_greedily(
    built: Built, measured_of: Measured, toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    assert_verified_greedily(measured_of(built, FP32), FP32, toolchain, sample, few_windows, tmp_path)


def test_a_file_for_a_device_that_onnxruntime_does_not_know_is_not_measured(
    built: Built, toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(INT4, target="metal")
    with pytest.raises(BuildError, match="onnx/cpu-int4 is for metal, of which onnxruntime knows nothing here"):
        measure(toolchain, built.folders[INT4.name], other, sample, few_windows, tmp_path / "log")


def test_the_same_checkpoint_gives_the_same_bytes_whatever_else_is_built(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    elsewhere = copy_of(sample, tmp_path / "a source by another name")
    again = build(toolchain, elsewhere, [INT8, INT4], tmp_path / "again", threads=1, log=tmp_path / "log")
    for variant in (INT4, INT8):
        assert again.files(variant.name) == built.files(variant.name)


def test_the_model_names_the_builder_and_no_repository_that_the_toolchain_lies_in(
    toolchain: Toolchain, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder asks git for the commit around itself; this git answers as if the toolchain lay in a repository."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")
    repository = tmp_path / "repository"
    subprocess.run([git, "init", "-q", repository], check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([git, "-C", repository, *author, "commit", "-q", "--allow-empty", "-m", "One"], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f'#!/bin/sh\ncd "{repository}" && exec "{git}" "$@"\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    result = build(toolchain, sample, [INT8], tmp_path / "job", log=tmp_path / "log")
    code = "import sys, onnx\nm = onnx.load(sys.argv[1], load_external_data=False)\nprint(m.producer_version)"
    printed = run_python(toolchain, code, result.folders[INT8.name] / "model.onnx").strip()
    commit = run_python(toolchain, "import onnxruntime_genai as og\nprint(og.__commit__[:7])").strip()
    assert printed == f"0.18.0+{commit}"


def test_a_checkpoint_that_names_only_the_end_of_text_still_stops_at_the_end_of_a_turn(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    (source / "generation_config.json").unlink()
    result = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")
    config = json.loads(result.files(INT4.name)["genai_config.json"])
    ids = json.loads((sample / "added_tokens.json").read_text())
    assert config["model"]["eos_token_id"] == [ids["<|endoftext|>"], ids["<|end|>"]]


@pytest.mark.parametrize("kind", ["phi-3-mini-4k", "phi-4", "phi-4-mini", "phi-2"])
def test_the_other_kinds_of_phi_predict_the_same_as_the_original(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    source, reference = kind_of_phi(kind)
    sides = ["short", "long"] if kind == "phi-4-mini" else ["short"]
    assert_predicts_what_the_original_does(toolchain, FP32, source, reference, tmp_path, sides=sides)


def test_a_row_that_the_builder_cannot_make_fails_alone(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    impossible = Variant(
        name="onnx/cpu-none",
        precision="int4",
        bits_per_weight=4.0,
        summary="A method that does not exist",
        options=INT4.options | {"extra_options": {"algo_config": "none"}},
    )
    assert_fails_alone(toolchain, impossible, INT8, sample, tmp_path, "the builder failed: ")


def test_truncated_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    assert_truncated_weights_are_named(toolchain, [INT4], sample, tmp_path)


@pytest.mark.parametrize("nonsense", [{"rope_scaling": "long"}, {"sliding_window": "wide"}], ids=str)
def test_a_config_that_its_transformers_does_not_read_is_not_taken(
    toolchain: Toolchain, sample: Path, tmp_path: Path, nonsense: dict[str, str]
) -> None:
    source = copy_of(sample, tmp_path / "source")
    file = source / "config.json"
    file.chmod(0o644)
    file.write_text(json.dumps(json.loads(file.read_text()) | nonsense))
    with pytest.raises(FormatRefusedError, match=r"^config\.json cannot be read: "):
        build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")


def test_a_missing_tokenizer_is_the_sources_fault(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    assert_a_missing_tokenizer_is_named(toolchain, [INT4], sample, tmp_path)


@pytest.mark.parametrize("stock", [False, True], ids=["in step", "one after the other"])
def test_a_disk_that_fills_up_leaves_rows_that_are_whole_and_nothing_of_others(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, stock: bool
) -> None:
    """In 4 bits weights take less than they had, and in float32 twice as much. Written in step, neither is whole."""
    weights = (sample / "model.safetensors").stat().st_size
    with on_full_disk(toolchain, sample, [INT4, FP32], tmp_path, 2 * weights / 1e6, stock=stock) as left:
        assert left.files(INT4.name) == (built.files(INT4.name) if stock else {})
        assert left.files(FP32.name) == {}


def test_nothing_is_sent_or_kept_about_the_use_of_the_runtime(
    toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime keeps a device id and a queue of events in the user's cache folder, unless it is told not to."""
    assert_nothing_is_kept_at_home(toolchain, INT8, sample, few_windows, tmp_path, monkeypatch)
