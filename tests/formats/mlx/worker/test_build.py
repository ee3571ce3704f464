"""MLX, whole: every row is built from the sample by mlx-lm and measured in it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.errors import DamagedWeightsError, FormatRefusedError
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.records.digests import is_content
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.limits import on_full_disk
from tests.worker.running import (
    Built,
    Measured,
    build,
    copy_of,
    damage_last_shard,
    distances,
    failures,
    keep_few_windows,
    measure,
    rows,
    run_python,
)

pytestmark = pytest.mark.toolchain

ROWS = rows("mlx")
FOUR_BITS, EIGHT_BITS, BF16, FP32 = (catalogue.all_variants()[f"mlx/{n}"] for n in ("4bit", "8bit", "bf16", "fp32"))

# Mean KL, in nats per token, past the switch of the sample: about twice what was measured.
BOUNDS = {"3bit": 0.12, "4bit": 0.03, "6bit": 0.002, "8bit": 0.0003, "fp16": 0.00002, "bf16": 0.0001, "fp32": 0.00001}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.fixture(scope="module")
def built(mlx_files: Built) -> Built:
    """Every row of the catalogue, built in one job."""
    return mlx_files


@pytest.fixture(scope="module")
def stock(toolchain: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``mlx_lm.convert`` itself makes of the sample, with 4 bits."""
    folder = tmp_path_factory.mktemp("stock") / "model"
    code = "import sys, mlx_lm; mlx_lm.convert(sys.argv[1], sys.argv[2], quantize=True, q_bits=4, q_group_size=64)"
    run_python(toolchain, code, sample, folder)
    return folder


def test_one_job_builds_every_row(built: Built) -> None:
    assert not built.failures
    assert built.names == [v.name for v in ROWS]


def test_a_repo_holds_the_files_that_mlx_lm_loads_and_no_card_of_its_own(built: Built, sample: Path) -> None:
    files = built.files(FOUR_BITS.name)
    own = {"config.json", "model.safetensors", "model.safetensors.index.json"}
    taken = {p.name for p in sample.iterdir() if is_content(p.name)} - own
    assert {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "generation_config.json"} <= taken
    assert set(files) == own | taken
    for name in taken:
        assert files[name] == (sample / name).read_bytes()


def test_weights_and_config_are_those_that_mlx_lm_convert_writes(built: Built, stock: Path) -> None:
    files = built.files(FOUR_BITS.name)
    for name in ("model.safetensors", "model.safetensors.index.json", "config.json"):
        assert files[name] == (stock / name).read_bytes()


def test_progress_counts_written_bytes(built: Built) -> None:
    last = built.progress[-1]
    written = sum((folder / "model.safetensors").stat().st_size for folder in built.folders.values())
    assert last["what"] == "converting to 3bit, 4bit, 6bit, 8bit, fp16, bf16, fp32"
    assert last["done"] == last["total"] == pytest.approx(written, rel=0.01)


@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_every_folder_passes_every_check_and_stays_near_the_original_past_the_switch(
    built: Built, measured_of: Measured, variant: Variant
) -> None:
    measured = measured_of(built, variant)
    assert measured["runtime"].startswith("mlx-lm 0.32.2")
    assert failures(measured) == {}
    found = distances(measured)
    assert -1e-7 < found["long"].figures.mean_kl < BOUNDS[variant.short_name]
    assert 0.01 < found["short"].figures.mean_kl < 0.3  # the known behaviour: long factors there too


def test_the_same_weights_in_other_types_generate_the_same(built: Built, measured_of: Measured) -> None:
    fp32, bf16 = (measured_of(built, v)["generations"] for v in (FP32, BF16))
    assert [g["ids"] for g in fp32] == [g["ids"] for g in bf16]
    assert fp32[0]["stopped"]  # the one answer that is as long as it likes


@pytest.mark.parametrize(
    "kind",
    ["phi-3-mini-4k", pytest.param("phi-4", marks=pytest.mark.sweep), "phi-4-mini", "phi-2", "phi-3.5-moe"],
)
def test_the_other_kinds_of_phi_predict_the_same_as_the_original(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    source, reference = kind_of_phi(kind)
    result = build(toolchain, source, [FP32, FOUR_BITS], tmp_path / "job", log=tmp_path / "log")
    measured = measure(toolchain, result.folders[FP32.name], FP32, source, reference, tmp_path / "log")
    assert failures(measured) == {}
    found = distances(measured)
    if kind == "phi-3-mini-4k":  # mlx-lm's Phi-3 has no sliding window: here all positions from 100 on see more
        assert found["short"].figures.mean_kl > 0.1
    else:
        side = "long" if kind in ("phi-4-mini", "phi-3.5-moe") else "short"
        assert abs(found[side].figures.mean_kl) < 1e-6
        assert found[side].figures.top1_agreement > 0.99
    few = keep_few_windows(reference, tmp_path / "few")
    rounded = measure(toolchain, result.folders[FOUR_BITS.name], FOUR_BITS, source, few, tmp_path / "log")
    assert failures(rounded) == {}


def test_the_same_checkpoint_gives_the_same_bytes(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    elsewhere = copy_of(sample, tmp_path / "a source by another name")
    again = build(toolchain, elsewhere, [FOUR_BITS], tmp_path / "again", log=tmp_path / "log")
    assert again.files(FOUR_BITS.name) == built.files(FOUR_BITS.name)


@pytest.mark.parametrize("style", ["rope_parameters", "rope_type"])
def test_rope_settings_are_understood_as_newer_transformers_write_them(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, style: str
) -> None:
    source = copy_of(sample, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    settings: dict[str, Json] = config.pop("rope_scaling")
    settings["rope_type"] = settings.pop("type")
    if style == "rope_parameters":
        config["rope_parameters"] = settings | {"rope_theta": config.pop("rope_theta")}
    else:
        config["rope_scaling"] = settings
    (source / "config.json").write_text(json.dumps(config))
    result = build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")
    saved = json.loads(result.files(FOUR_BITS.name)["config.json"])
    expected = json.loads(built.files(FOUR_BITS.name)["config.json"])
    assert saved["rope_scaling"]["type"] == "longrope"
    assert {k: saved["rope_scaling"][k] for k in expected["rope_scaling"]} == expected["rope_scaling"]
    assert saved["rope_theta"] == expected["rope_theta"]
    assert result.files(FOUR_BITS.name)["model.safetensors"] == built.files(FOUR_BITS.name)["model.safetensors"]


@pytest.mark.parametrize("incomplete", ["without generation_config.json", "without <|end|> in it"])
def test_generation_stops_where_a_turn_ends_even_if_the_source_does_not_say_so(
    toolchain: Toolchain, sample: Path, tmp_path: Path, incomplete: str
) -> None:
    source = copy_of(sample, tmp_path / "source")
    generation = source / "generation_config.json"
    complete = json.loads(generation.read_text())
    if incomplete == "without generation_config.json":
        generation.unlink()
    else:
        generation.write_text(json.dumps(complete | {"eos_token_id": complete["pad_token_id"]}))
    result = build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")
    code = "import sys, mlx_lm; print(sorted(mlx_lm.load(sys.argv[1])[1].eos_token_ids))"
    said = run_python(toolchain, code, result.folders[FOUR_BITS.name])
    end = json.loads((source / "added_tokens.json").read_text())["<|end|>"]
    assert json.loads(said) == sorted({end, complete["pad_token_id"]})


def test_a_target_that_mlx_lm_cannot_make_fails_alone(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    impossible = Variant(
        name="mlx/7bit", precision="int8", bits_per_weight=7.5, summary="", options={"bits": 7, "group_size": 64}
    )
    result = build(toolchain, sample, [impossible, FOUR_BITS], tmp_path / "job", log=tmp_path / "log")
    assert list(result.failures) == ["mlx/7bit"]
    assert "7" in result.failures["mlx/7bit"]
    assert result.names == [FOUR_BITS.name]
    assert list(result.folders["mlx/7bit"].iterdir()) == []


def test_a_config_that_asks_for_a_module_of_its_own_is_refused(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    source = copy_of(sample, tmp_path / "source")
    marker = tmp_path / "ran"
    (source / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_file": "own.py"}))
    with pytest.raises(FormatRefusedError, match=r"custom module"):
        build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")
    assert not marker.exists()


def test_truncated_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    damage_last_shard(source)
    with pytest.raises(DamagedWeightsError, match=r"^model\.safetensors is damaged: "):
        build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")


def test_a_missing_tensor_is_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    code = (
        "import sys, mlx.core as mx\n"
        "weights = mx.load(sys.argv[1]); del weights['lm_head.weight']; mx.save_safetensors(sys.argv[1], weights)"
    )
    run_python(toolchain, code, source / "model.safetensors")
    with pytest.raises(FormatRefusedError, match=r"^mlx-lm does not take the model: .*lm_head\.weight"):
        build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")


def test_a_missing_tokenizer_is_said_to_be_missing(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    for name in ("tokenizer.json", "tokenizer.model"):
        (source / name).unlink()
    with pytest.raises(FormatRefusedError, match=r"^mlx-lm does not take the model: .*tokenizer"):
        build(toolchain, source, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log")


def test_a_disk_that_fills_up_leaves_the_folder_that_was_whole(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    with on_full_disk(toolchain, sample, [FOUR_BITS, EIGHT_BITS], tmp_path, 5, stock=True) as result:
        assert result.names == [FOUR_BITS.name]
        assert result.files(FOUR_BITS.name) == built.files(FOUR_BITS.name)
        assert result.files(EIGHT_BITS.name) == {}


def test_a_disk_that_fills_up_leaves_nothing_half_made(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    with on_full_disk(toolchain, sample, [FOUR_BITS, EIGHT_BITS], tmp_path, 5, stock=False) as result:
        assert result.names == []
        assert [result.files(name) for name in result.folders] == [{}, {}]
