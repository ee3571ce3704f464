"""PyTorch: what is built from the sample, that it passes every check, and what happens where it cannot be built."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.errors import DamagedTokenizerError, DamagedWeightsError
from bot.progress import Silent
from bot.records.artifacts import Variant
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

ROWS = rows("torch")
W4A16, W8A8 = (catalogue.all_variants()[f"torch/{n}"] for n in ("w4a16", "w8a8"))

# Mean KL, in nats per token: about twice what was measured, on either side of the switch of the sample.
BOUNDS = {"w4a16": 0.05, "w8a8": 0.001}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("torch", Silent())


@pytest.fixture(scope="module")
def built(torch_files: Built) -> Built:
    """Every row of the catalogue, built in one job."""
    return torch_files


def test_one_job_builds_every_row(built: Built) -> None:
    assert not built.failures
    assert built.names == [v.name for v in ROWS]


def test_a_repo_holds_the_sources_own_files_and_says_how_weights_are_packed(built: Built, sample: Path) -> None:
    files = built.files(W4A16.name)
    own = {"config.json", "model.safetensors"}
    taken = {p.name for p in sample.iterdir() if is_content(p.name)} - own
    assert set(files) == own | taken
    for name in taken:
        assert files[name] == (sample / name).read_bytes()
    config, given = json.loads(files["config.json"]), json.loads((sample / "config.json").read_text())
    said = config.pop("quantization_config")
    assert config == given | {"eos_token_id": config["eos_token_id"]}
    assert (said["quant_method"], said["format"], said["ignore"]) == (
        "compressed-tensors",
        "pack-quantized",
        ["lm_head"],
    )
    [group] = said["config_groups"].values()
    assert (group["weights"]["num_bits"], group["weights"]["group_size"], group["weights"]["symmetric"]) == (
        4,
        128,
        True,
    )


def test_matrices_of_layers_are_quantized_and_the_others_stay(built: Built, sample: Path) -> None:
    kinds = {n: e["dtype"] for n, e in header(built.folders[W8A8.name]).items()}
    given = header(sample)
    quantized = {n for n, kind in kinds.items() if kind == "I8"}
    assert quantized == {n for n in given if ".layers." in n and n.endswith("_proj.weight")}
    others = {n for n in kinds if not n.endswith("_scale")} - quantized
    assert {n: kinds[n] for n in others} == {n: given[n]["dtype"] for n in given.keys() - quantized}


def test_progress_counts_written_bytes(built: Built) -> None:
    last = built.progress[-1]
    written = sum((folder / "model.safetensors").stat().st_size for folder in built.folders.values())
    assert last["what"] == "converting to w4a16, w8a8"
    assert last["done"] == last["total"] == pytest.approx(written, rel=0.01)


@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_every_folder_passes_every_check_on_both_sides_of_the_switch(
    built: Built, measured_of: Measured, variant: Variant
) -> None:
    measured = measured_of(built, variant)
    assert measured["runtime"] == "transformers 5.23.0 (on the CPU, in float32)"
    assert failures(measured) == {}
    found = distances(measured)
    assert found.keys() == {"short", "long"}
    assert all(0 < d.figures.mean_kl < BOUNDS[variant.short_name] for d in found.values())


@pytest.mark.parametrize("kind", ["phi-4-mini", "phi-2", pytest.param("phi-3-mini-4k", marks=pytest.mark.sweep)])
def test_the_other_kinds_of_phi_pass_too(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    source, reference = kind_of_phi(kind)
    result = build(toolchain, source, [W8A8], tmp_path / "job", log=tmp_path / "log")
    few = keep_few_windows(reference, tmp_path / "few")
    measured = measure(toolchain, result.folders[W8A8.name], W8A8, source, few, tmp_path / "log")
    assert failures(measured) == {}
    assert all(d.figures.mean_kl < 0.003 for d in distances(measured).values())


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
    result = build(toolchain, source, [W8A8], tmp_path / "job", log=tmp_path / "log")
    code = (
        "import sys, transformers as t\n"
        "print(sorted(t.AutoModelForCausalLM.from_pretrained(sys.argv[1]).generation_config.eos_token_id))"
    )
    said = run_python(toolchain, code, result.folders[W8A8.name])
    end = json.loads((source / "added_tokens.json").read_text())["<|end|>"]
    assert json.loads(said.splitlines()[-1]) == sorted({end, complete["pad_token_id"]})


def test_a_target_that_there_is_no_scheme_for_fails_alone(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    impossible = Variant(name="torch/w9a9", precision="int8", bits_per_weight=9, summary="", options={"scheme": "W9A9"})
    result = build(toolchain, sample, [impossible, W4A16], tmp_path / "job", log=tmp_path / "log")
    assert list(result.failures) == ["torch/w9a9"]
    assert "W9A9" in result.failures["torch/w9a9"]
    assert result.names == [W4A16.name]
    assert list(result.folders["torch/w9a9"].iterdir()) == []


def test_truncated_weights_are_named(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    damage_last_shard(source)
    with pytest.raises(DamagedWeightsError, match=r"^model\.safetensors is damaged: "):
        build(toolchain, source, [W4A16], tmp_path / "job", log=tmp_path / "log")


def test_a_missing_tokenizer_is_said_to_be_missing(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    source = copy_of(sample, tmp_path / "source")
    for name in ("tokenizer.json", "tokenizer.model"):
        (source / name).unlink()
    with pytest.raises(DamagedTokenizerError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        build(toolchain, source, [W4A16], tmp_path / "job", log=tmp_path / "log")


def test_a_disk_that_fills_up_leaves_nothing_half_made(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    with on_full_disk(toolchain, sample, [W4A16, W8A8], tmp_path, 5, stock=False) as result:
        assert result.names == []
        assert [result.files(name) for name in result.folders] == [{}, {}]


def header(folder: Path) -> dict[str, dict[str, object]]:
    """The header of the weights of a folder, without what it says of itself."""
    with (folder / "model.safetensors").open("rb") as file:
        found: dict[str, dict[str, object]] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    found.pop("__metadata__", None)
    return found
