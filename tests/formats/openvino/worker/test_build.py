"""OpenVINO, whole: every row is exported from the sample by optimum-intel, and measured in OpenVINO."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.records.digests import CONTENT_FILES
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
from tests.worker.running import Built, Measured, assert_proven, build, copy_of, failures, rows, run_python

pytestmark = pytest.mark.toolchain

ROWS = rows("openvino")
INT4, CHANNELS, INT8, FP32 = (catalogue.all_variants()[f"openvino/{p}"] for p in ("int4", "int4-cw", "int8", "fp32"))

# Mean KL, in nats per token, on the sample: about twice what was measured, on the larger of the two sides.
BOUNDS = {"int4": 0.02, "int4-cw": 0.025, "int8": 0.0003, "fp16": 0.00002, "fp32": 0.00001}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("openvino", Silent())


@pytest.fixture(scope="module")
def built(openvino_files: Built) -> Built:
    """Every row of the catalogue, built in one job."""
    return openvino_files


def test_one_job_builds_every_row(built: Built, sample: Path) -> None:
    assert not built.failures
    assert built.names == [v.name for v in ROWS]
    parts = ("openvino_model", "openvino_tokenizer", "openvino_detokenizer")
    for variant in ROWS:
        files = built.files(variant.name)
        assert {f"{p}.{kind}" for p in parts for kind in ("xml", "bin")} <= files.keys()
        for name in CONTENT_FILES - {"config.json", "generation_config.json"}:
            assert files.get(name) == ((sample / name).read_bytes() if (sample / name).exists() else None)


def test_nothing_of_the_machine_is_in_the_files(built: Built, sample: Path) -> None:
    assert_nothing_of_the_machine_is_in(built, sample)


def test_progress_counts_the_bytes_that_are_written(built: Built) -> None:
    last = [e for e in built.progress if e["what"] == "writing " + ", ".join(v.short_name for v in ROWS)][-1]
    assert (last["done"], last["unit"]) == (last["total"], "bytes")
    written = sum((folder / "openvino_model.bin").stat().st_size for folder in built.folders.values())
    assert 0.99 * last["total"] <= written <= last["total"]  # equal constants are written once


def test_progress_of_the_stock_path_counts_the_tensors_that_are_compressed(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    stock = build(toolchain, sample, [INT8], tmp_path / "job", log=tmp_path / "log", stock=True)
    last = [e for e in stock.progress if e["what"] == "compressing int8"][-1]
    assert (last["done"], last["unit"]) == (last["total"], "tensors")
    assert last["total"] >= 4 * 4  # the matrices of four layers


def test_each_row_reports_its_cost(built: Built) -> None:
    for event in (e for e in built.events if e["event"] == "built"):
        assert event["seconds"] > 0
        assert event["peak_memory"] > 100e6


@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_every_file_passes_all_checks_and_stays_near_the_original_on_both_sides_of_the_switch(
    built: Built, measured_of: Measured, variant: Variant
) -> None:
    measured = measured_of(built, variant)
    assert measured["runtime"] == "openvino-genai 2026.4.1.0"
    assert_proven(measured, BOUNDS[variant.short_name])


def test_in_8_bits_it_generates_the_same_as_the_unquantized_weights(built: Built, measured_of: Measured) -> None:
    assert_generate_the_same(measured_of(built, v) for v in (INT8, FP32))


def test_a_source_that_asks_for_sampling_is_verified_greedily(
    built: Built, measured_of: Measured, toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    assert_verified_greedily(measured_of(built, FP32), FP32, toolchain, sample, few_windows, tmp_path)


def test_the_same_checkpoint_gives_the_same_bytes_whatever_else_is_built(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    elsewhere = copy_of(sample, tmp_path / "a source by another name")
    again = build(toolchain, elsewhere, [INT4], tmp_path / "again", threads=1, log=tmp_path / "log")
    assert again.files(INT4.name) == built.files(INT4.name)


def test_optimum_loads_compressed_files_and_genai_knows_the_chat_template(
    built: Built, toolchain: Toolchain, sample: Path
) -> None:
    code = """
import json, sys
import openvino_genai
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
messages = [{"role": "user", "content": "What is 12 plus 7?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
model = OVModelForCausalLM.from_pretrained(folder, ov_config={"INFERENCE_PRECISION_HINT": "f32"})
text = openvino_genai.Tokenizer(folder).apply_chat_template(messages, True)
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0].tolist()
print(json.dumps({"text": text, "prompt": tokenizer.decode(inputs["input_ids"][0]), "tokens": len(tokens)}))
"""
    said = json.loads(run_python(toolchain, code, built.folders[INT4.name]).splitlines()[-1])
    assert said["text"] == "<|user|>\nWhat is 12 plus 7?<|end|>\n<|assistant|>\n"
    assert said["prompt"].startswith("<|user|>")
    assert said["tokens"] > 8


def test_a_tokenizer_that_asks_for_spaces_to_be_cleaned_up_still_decodes_every_space(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    """As Phi-2's does: in code, spaces before punctuation mean something."""
    source = copy_of(sample, tmp_path / "source")
    file = source / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"clean_up_tokenization_spaces": True}
    file.chmod(0o644)
    file.write_text(json.dumps(config))
    result = build(toolchain, source, [INT8], tmp_path / "job", log=tmp_path / "log")
    code = r"""
import json, sys, openvino_genai
tokenizer = openvino_genai.Tokenizer(sys.argv[1])
ids = tokenizer.encode(r"a || !b ? x \le y , z", add_special_tokens=False).input_ids
print(json.dumps(tokenizer.decode(ids)[0]))
"""
    found = run_python(toolchain, code, result.folders[INT8.name]).splitlines()[-1]
    assert json.loads(found) == r"a || !b ? x \le y , z"


def test_a_checkpoint_that_names_only_the_end_of_text_still_stops_at_the_end_of_a_turn(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    (source / "generation_config.json").unlink()
    result = build(toolchain, source, [INT8], tmp_path / "job", log=tmp_path / "log")
    ids = json.loads((sample / "added_tokens.json").read_text())
    code = """
import sys, openvino_genai
config = openvino_genai.LLMPipeline(sys.argv[1], "CPU").get_generation_config()
print(sorted(config.stop_token_ids))
"""
    found = json.loads(run_python(toolchain, code, result.folders[INT8.name]).splitlines()[-1])
    assert found == sorted([ids["<|endoftext|>"], ids["<|end|>"]])


@pytest.mark.parametrize("kind", ["phi-3-mini-4k", "phi-4-mini", "phi-2", "phi-3.5-moe"])
def test_the_other_kinds_of_phi_predict_the_same_as_the_original(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    source, reference = kind_of_phi(kind)
    sides = ["short", "long"] if kind in ("phi-4-mini", "phi-3.5-moe") else ["short"]
    measured = assert_predicts_what_the_original_does(toolchain, FP32, source, reference, tmp_path, sides=sides)
    wrong = set(failures(measured))
    assert wrong <= ({"tokenizer"} if kind == "phi-2" else set())  # Phi-2 does not come with the sample's tokenizer


def test_a_row_that_cannot_be_compressed_fails_alone(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    impossible = Variant(
        name="openvino/int4-odd",
        precision="int4",
        bits_per_weight=4.0,
        summary="Groups that do not divide the rows",
        options={"weight_format": "int4", "group_size": 96, "ratio": 1.0},
    )
    assert_fails_alone(toolchain, impossible, INT8, sample, tmp_path, "the export failed: InvalidGroupSizeError: ")


def test_truncated_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    assert_truncated_weights_are_named(toolchain, [INT4, INT8], sample, tmp_path)


def test_a_missing_tokenizer_is_the_sources_fault(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    assert_a_missing_tokenizer_is_named(toolchain, [INT4], sample, tmp_path)


@pytest.mark.parametrize(
    ("variant", "share", "stock"),
    [(FP32, 1.5, False), (FP32, 1.5, True), (INT4, 1.25, True)],
    ids=["writing", "exporting", "compressing"],
)
def test_a_disk_that_fills_up_is_said_to_be_full(
    toolchain: Toolchain, sample: Path, tmp_path: Path, variant: Variant, share: float, stock: bool
) -> None:
    """In float32 the weights take twice what they had; in 4 bits 0.4, and the stock path keeps its export beside."""
    weights = (sample / "model.safetensors").stat().st_size
    with on_full_disk(toolchain, sample, [variant], tmp_path, share * weights / 1e6, stock=stock) as left:
        assert left.files(variant.name) == {}


def test_nothing_is_sent_or_kept_about_the_use_of_the_toolchain(
    toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openvino's telemetry keeps an id and its consent in the home folder."""
    assert_nothing_is_kept_at_home(toolchain, INT8, sample, few_windows, tmp_path, monkeypatch)
