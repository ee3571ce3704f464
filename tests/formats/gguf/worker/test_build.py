"""GGUF, whole: every row is built from the sample by llama.cpp and measured in llama-cpp-python."""

import json
from pathlib import Path

import pytest

from bot import catalogue
from bot.errors import DamagedWeightsError, FormatRefusedError
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.texts import DROPPED_BEHIND
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.toolchain_fixtures import compute_reference
from tests.worker.limits import on_full_disk
from tests.worker.running import (
    MODEL,
    Built,
    Measured,
    build,
    copy_of,
    damage_last_shard,
    distances,
    failures,
    measure,
    rows,
    run_python,
)

pytestmark = pytest.mark.toolchain

ROWS = rows("gguf")
Q4_K_M, Q8_0, BF16, F16 = (catalogue.all_variants()[f"gguf/{n}"] for n in ("q4_k_m", "q8_0", "bf16", "f16"))

# Mean KL, in nats per token, on the sample: about twice what was measured, on the larger of the two sides.
BOUNDS = {
    "iq2_m": 0.1,
    "iq3_xxs": 0.08,
    "iq3_m": 0.05,
    "iq4_xs": 0.02,
    "q2_k": 0.17,
    "q3_k_s": 0.08,
    "q3_k_m": 0.05,
    "q3_k_l": 0.04,
    "q4_0": 0.03,
    "q4_k_s": 0.02,
    "q4_k_m": 0.02,
    "q5_k_s": 0.005,
    "q5_k_m": 0.005,
    "q6_k": 0.002,
    "q8_0": 0.0003,
    "f16": 0.00002,
    "bf16": 0.00003,
    "f32": 0.00001,
}


# Prints a file's metadata, and the tokens of a chat at which llama.cpp stops.
INSPECT = """
import json, sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)
vocabulary = llama_cpp.llama_model_get_vocab(model.model)
tokens = ["<|end|>", "<|endoftext|>", "<|assistant|>", "<|user|>"]
ids = {t: model.tokenize(t.encode(), add_bos=False, special=True)[-1] for t in tokens}
stop = [t for t, i in ids.items() if llama_cpp.llama_vocab_is_eog(vocabulary, i)]
print(json.dumps({"metadata": model.metadata, "stop": stop}))
"""


def inspect(toolchain: Toolchain, folder: Path) -> Json:
    """What llama.cpp reads out of the one file in a folder."""
    (file,) = folder.iterdir()
    return json.loads(run_python(toolchain, INSPECT, file))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def built(gguf_files: Built) -> Built:
    """Every row of the catalogue, built in one job."""
    return gguf_files


def test_one_job_builds_every_row(built: Built) -> None:
    assert not built.failures
    assert sorted(built.names) == sorted(v.name for v in ROWS)
    for variant in ROWS:
        (file,) = built.folders[variant.name].iterdir()
        assert file.name == f"{MODEL}-{variant.short_name.upper()}.gguf"


def test_the_scratch_folder_is_left_without_weights(built: Built) -> None:
    scratch = built.folders["gguf/f32"].parent / "scratch"
    assert [p.name for p in scratch.iterdir() if p.suffix == ".gguf"] == []


def test_progress_counts_the_bytes_of_all_files(built: Built) -> None:
    progress = [e for e in built.progress if e["what"].startswith("writing IQ2_M, ")]
    written = [e["done"] for e in progress]
    assert written == sorted(written)
    assert progress[-1]["done"] == progress[-1]["total"]
    size = sum(p.stat().st_size for folder in built.folders.values() for p in folder.iterdir())
    assert written[-1] == pytest.approx(size, rel=0.05)  # less the headers


def test_progress_of_the_stock_path_counts_bytes_of_the_checkpoint_and_tensors_of_each_type(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    stock = build(toolchain, sample, [Q4_K_M, Q8_0], tmp_path / "job", log=tmp_path / "log", stock=True)
    converted = [e["done"] for e in stock.progress if e["what"] == "converting to BF16"]
    assert converted == sorted(converted)
    assert converted[-1] == pytest.approx((sample / "model.safetensors").stat().st_size, rel=0.01)
    for kind in ("Q4_K_M", "Q8_0"):
        last = [e for e in stock.progress if e["what"] == f"quantizing to {kind}"][-1]
        assert (last["done"], last["unit"]) == (last["total"], "tensors")


@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_every_file_passes_every_check_and_stays_near_the_original_on_both_sides_of_the_switch(
    built: Built, measured_of: Measured, variant: Variant
) -> None:
    measured = measured_of(built, variant)
    assert measured["runtime"] == "llama-cpp-python 0.3.36"
    assert failures(measured) == {}
    found = distances(measured)
    assert set(found) == {"short", "long"}
    for distance in found.values():
        assert 0 <= distance.figures.mean_kl + 1e-7 < BOUNDS[variant.short_name]


def test_the_same_weights_in_other_types_generate_the_same(built: Built, measured_of: Measured) -> None:
    f32, bf16 = (measured_of(built, v)["generations"] for v in (catalogue.all_variants()["gguf/f32"], BF16))
    assert [g["ids"] for g in f32] == [g["ids"] for g in bf16]
    assert f32[0]["stopped"]  # the one answer that is as long as it likes


def test_the_same_checkpoint_gives_the_same_bytes_with_other_threads_in_another_folder(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    elsewhere = copy_of(sample, tmp_path / "a source by another name")
    again = build(toolchain, elsewhere, [Q4_K_M, F16], tmp_path / "again", threads=1, log=tmp_path / "log")
    for variant in (Q4_K_M, F16):
        assert again.files(variant.name) == built.files(variant.name)


def test_metadata_name_the_model_and_guess_nothing_from_folders_or_the_base_model(
    built: Built, toolchain: Toolchain, sample: Path
) -> None:
    found = inspect(toolchain, built.folders[Q4_K_M.name])["metadata"]
    assert found["general.name"].startswith(MODEL)
    assert not found.keys() & {"general.organization", "general.basename", "general.finetune", "general.version"}
    assert (
        found["tokenizer.chat_template"] == json.loads((sample / "tokenizer_config.json").read_text())["chat_template"]
    )
    assert found["phi3.rope.scaling.original_context_length"] == "512"


@pytest.mark.parametrize(
    ("model", "name"), [("My-tune", "My-tune (phi3)"), ("Phi-3.5-tune", "Phi-3.5-tune"), ("phi3-tune", "phi3-tune")]
)
def test_line_breaks_after_special_tokens_are_dropped_as_the_source_does_whatever_the_name(
    toolchain: Toolchain, sample: Path, few_windows: Path, tmp_path: Path, model: str, name: str
) -> None:
    """llama.cpp drops them only in a model that is called phi-3 or phi3."""
    result = build(toolchain, sample, [Q8_0], tmp_path / "job", model=model, log=tmp_path / "log")
    assert inspect(toolchain, result.folders[Q8_0.name])["metadata"]["general.name"] == name
    measured = measure(toolchain, result.folders[Q8_0.name], Q8_0, sample, few_windows, tmp_path / "log")
    assert failures(measured) == {}


def test_a_tune_whose_own_tokens_keep_white_space_beside_those_of_phi_3_is_refused_by_name(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    """llama.cpp would drop it behind ``<tool_call>`` too: such a file was built, and passed, before this was tried."""
    source = copy_of(sample, tmp_path / "source")
    add_tokens(source, {"<tool_call>": 2011, "</tool_call>": 2012})
    with pytest.raises(FormatRefusedError, match=r"drops .* behind </s>.*keeps it behind <tool_call>, </tool"):
        build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")


def test_a_tune_with_own_tokens_like_those_of_phi_3_passes_and_texts_with_them_are_tried(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    add_tokens(source, {"<tool_call>": 2011, "</tool_call>": 2012}, rstrip=True)
    result = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    compute_reference(source, tmp_path / "reference")
    asked = json.loads((tmp_path / "reference" / "reference.json").read_text())["unusual"]
    assert "<tool_call> two" in asked[DROPPED_BEHIND]["texts"]
    measured = measure(toolchain, result.folders[Q8_0.name], Q8_0, source, tmp_path / "reference", tmp_path / "log")
    assert failures(measured) == {}


def test_a_checkpoint_without_tokenizer_config_or_template_passes_where_the_original_is_silent_too(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    (source / "tokenizer_config.json").unlink()
    result = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    compute_reference(source, tmp_path / "reference")
    measured = measure(toolchain, result.folders[Q8_0.name], Q8_0, source, tmp_path / "reference", tmp_path / "log")
    assert failures(measured) == {}
    (said,) = (c["detail"] for c in measured["checks"] if c["name"] == "generation")
    assert "the original itself says nothing to" in said


def add_tokens(source: Path, ids: dict[str, int], **flags: bool) -> None:
    """Give a checkpoint tokens of its own, in the rows that it has to spare, as transformers saves them."""
    tokenizer, config = (json.loads((source / n).read_text()) for n in ("tokenizer.json", "tokenizer_config.json"))
    given = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False} | flags
    tokenizer["added_tokens"] += [{"id": i, "content": t, **given} for t, i in ids.items()]
    config["added_tokens_decoder"] |= {str(i): {"content": t, **given} for t, i in ids.items()}
    added = json.loads((source / "added_tokens.json").read_text()) | ids
    for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config), ("added_tokens.json", added)):
        (source / name).unlink()
        (source / name).write_text(json.dumps(value))


def test_generation_stops_where_a_turn_ends_even_if_the_source_does_not_say_so(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    (source / "generation_config.json").unlink()
    result = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    assert inspect(toolchain, result.folders[Q8_0.name])["stop"] == ["<|end|>", "<|endoftext|>"]


def test_generation_stops_at_tokens_that_llama_cpp_does_not_know_by_their_text(
    built: Built, toolchain: Toolchain, sample: Path
) -> None:
    """As Phi-3.5 does, the sample ends an answer at ``<|assistant|>`` too."""
    assert 2001 in json.loads((sample / "generation_config.json").read_text())["eos_token_id"]
    stop = inspect(toolchain, built.folders[Q8_0.name])["stop"]
    assert stop == ["<|end|>", "<|endoftext|>", "<|assistant|>"]


def test_a_type_that_the_quantizer_refuses_fails_alone(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    refused = Variant(
        name="gguf/iq1_s", precision="int2", bits_per_weight=1.6, summary="Without a matrix", options={"ftype": "IQ1_S"}
    )
    result = build(toolchain, sample, [refused, Q8_0], tmp_path / "job", log=tmp_path / "log")
    assert result.failures == {"gguf/iq1_s": "this quantization requires an imatrix!"}
    assert result.names == ["gguf/q8_0"]
    assert list(result.folders["gguf/iq1_s"].iterdir()) == []


def test_missing_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    (source / "model.safetensors").unlink()
    with pytest.raises(DamagedWeightsError) as raised:
        build(toolchain, source, [Q8_0, BF16], tmp_path / "job", log=tmp_path / "log")
    assert raised.value.message == "there are no weights: no model*.safetensors"
    assert [p.name for p in (tmp_path / "job").rglob("*.gguf")] == []


def test_truncated_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    damage_last_shard(source)
    with pytest.raises(DamagedWeightsError, match=r"^model\.safetensors is damaged: "):
        build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    assert [p.name for p in (tmp_path / "job").rglob("*.gguf")] == []


@pytest.mark.parametrize("stock", [False, True])
def test_a_disk_that_fills_up_is_said_to_be_full(
    toolchain: Toolchain, sample: Path, tmp_path: Path, stock: bool
) -> None:
    with on_full_disk(toolchain, sample, [Q4_K_M], tmp_path, 4 if stock else 1, stock=stock):
        assert [p.name for p in (tmp_path / "disk").rglob("*.gguf")] == []


def test_a_disk_that_fills_up_while_the_stock_path_quantizes_leaves_the_file_that_was_whole(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    def size(name: str) -> int:
        return sum(p.stat().st_size for p in built.folders[name].iterdir())

    room = (
        size("gguf/bf16") + size(Q4_K_M.name) + size(Q8_0.name) // 2
    )  # the converted original, one file, half another
    with on_full_disk(toolchain, sample, [Q4_K_M, Q8_0], tmp_path, room / 1e6, stock=True) as result:
        assert result.names == [Q4_K_M.name]
        assert result.files(Q4_K_M.name) == built.files(Q4_K_M.name)
        assert [p.name for p in (tmp_path / "disk").rglob("*.gguf")] == [f"{MODEL}-Q4_K_M.gguf"]
