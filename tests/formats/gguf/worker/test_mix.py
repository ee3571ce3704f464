"""Types of tensors that are chosen by what rounding to them costs: a better file, of no more bytes."""

import re
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from bot import catalogue
from bot.formats.recipes import chooses_types, with_calibration
from bot.progress import Silent
from bot.records.artifacts import TypesByCost, Variant
from bot.source import read_header
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.real import cost_and_size
from tests.worker.running import (
    MODEL,
    Built,
    assert_proven,
    build,
    build_once,
    measure,
    prepare,
    run_build,
    solved_beside,
)
from tests.worker.stock import assert_same
from tests.worker.twins import empty, killing, run_with

pytestmark = pytest.mark.toolchain

FIT = catalogue.sized_rows()["gguf/fit"]
PLAIN = catalogue.all_variants()["gguf/q3_k_m"]
CHOSEN = with_calibration(PLAIN)
_KILLED = killing("worker.placed:PlacedFile", "write", after=15)


@pytest.fixture(scope="module")
def gguf() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def whole(gguf: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's file of chosen types: to be read only."""
    return build_once(tmp_path_factory, gguf, sample, [CHOSEN], "gguf types by cost")


def said(built: Built, variant: Variant = CHOSEN) -> TypesByCost:
    [event] = [e for e in built.events if e["event"] == "built" and e["variant"] == variant.name]
    return TypesByCost.from_json(event["types_by_cost"])


def size(built: Built, variant: Variant) -> int:
    return sum(map(len, built.files(variant.name).values()))


def test_the_mixes_are_chosen_where_quality_is_calibrated() -> None:
    rows = [v for v in map(with_calibration, catalogue.all_variants().values()) if chooses_types(v)]
    mixes = ["gguf/q3_k_m", "gguf/q4_k_m", "gguf/q5_k_m"]
    assert sorted(v.name for v in rows) == [*mixes, "onnx/cpu-int4", "openvino/int4"]


def test_it_has_no_more_bytes_and_says_which_types_it_has(whole: Built, gguf_files: Built) -> None:
    header = 300  # more bytes at most, of what it says of the importance matrix
    assert size(whole, CHOSEN) <= size(gguf_files, PLAIN) + header
    chosen = said(whole)
    assert chosen.own_kl is not None
    assert chosen.predicted_kl <= chosen.own_kl
    names = [name for tensors in chosen.types.values() for name in tensors]
    assert len(set(names)) == len(names)
    assert {"token_embd.weight", "blk.0.attn_qkv.weight", "blk.0.ffn_down.weight"} <= set(names)


def test_it_passes_every_check(gguf: Toolchain, whole: Built, sample: Path, reference: Path, tmp_path: Path) -> None:
    """And it is nearer to the original than llama.cpp's Q3_K_M of a sample is in docs/importance.md: 0.0165."""
    artifact = whole.folders[CHOSEN.name]
    assert_proven(measure(gguf, artifact, CHOSEN, sample, reference, tmp_path / "log"), 0.01)


def test_the_number_of_threads_changes_no_byte(gguf: Toolchain, whole: Built, sample: Path, tmp_path: Path) -> None:
    assert_same(build(gguf, sample, [CHOSEN], tmp_path / "job", threads=1, log=tmp_path / "log"), whole)


def test_a_source_that_streams_gives_the_same(gguf: Toolchain, whole: Built, sample: Path, tmp_path: Path) -> None:
    assert_same(build(gguf, sample, [CHOSEN], tmp_path / "job", streamed=True, log=tmp_path / "log"), whole)


def test_a_killed_build_goes_on(gguf: Toolchain, whole: Built, sample: Path, tmp_path: Path) -> None:
    killed = prepare(tmp_path / "job", [CHOSEN])
    assert run_with(_KILLED, gguf, sample, [CHOSEN], killed).killed
    empty(killed)
    run_build(gguf, sample, [CHOSEN], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    solved = [solved_beside(b.folders[CHOSEN.name]).read_text() for b in (killed, whole)]
    assert solved[0] == solved[1]
    assert said(killed) == said(whole)


def test_a_size_is_kept_to_the_byte_and_more_of_it_costs_less(
    gguf: Toolchain, whole: Built, sample: Path, reference: Path, tmp_path: Path
) -> None:
    """From below the smallest of llama.cpp's own mixes on. In the size of its Q3_K_M no more is lost than there."""
    there = size(whole, CHOSEN)
    sizes = [there * percent // 100 for percent in (80, 100, 150)]
    weights = read_header(sample / "model.safetensors").values()
    variants = [catalogue.decided(FIT.of(n), sum(prod(t.shape) for t in weights)) for n in sizes]
    built = build(gguf, sample, variants, tmp_path / "job", log=tmp_path / "log")
    found = [said(built, v) for v in variants]
    for variant, limit, chosen in zip(variants, sizes, found, strict=True):
        assert [*built.files(variant.name)] == [f"{MODEL}-fit-{variant.name.partition(':')[2]}.gguf"]
        assert limit * 0.97 < size(built, variant) <= limit
        assert chosen.own_kl is None or chosen.predicted_kl <= chosen.own_kl
    assert [bool(chosen.own) for chosen in found] == [False, True, True]
    costs = [chosen.predicted_kl for chosen in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[1] <= said(whole).predicted_kl
    middle = variants[1]
    assert_proven(measure(gguf, built.folders[middle.name], middle, sample, reference, tmp_path / "verify"), 0.01)


def test_a_size_below_the_smallest_file_is_refused_with_what_is_possible(
    gguf: Toolchain, sample: Path, tmp_path: Path
) -> None:
    variant = catalogue.decided(FIT.of(100_000), 250_000)
    built = build(gguf, sample, [variant], tmp_path / "job", log=tmp_path / "log")
    assert re.fullmatch(
        r"100,000 bytes is too small: a file of it may have [\d,]+ to [\d,]+", built.failures[variant.name]
    )


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_more_bytes_are_nearer_to_the_real_model(
    gguf: Toolchain, real_model: Path, real_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    costs = []
    for limit in (100_000_000, 110_000_000, 125_000_000):
        variant = catalogue.decided(FIT.of(limit), 191_149_824)
        cost, bytes_ = cost_and_size(gguf, variant, real_model, real_reference, tmp_path_factory)
        assert limit * 0.999 < bytes_ <= limit
        costs.append(cost)
    assert costs == sorted(costs, reverse=True)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "part"), [("gguf/q4_k_m", 0.35), ("gguf/q3_k_m", 0.30)])
def test_it_costs_much_less_on_the_real_model(
    name: str,
    part: float,
    gguf: Toolchain,
    real_model: Path,
    real_reference: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """In no more bytes than llama.cpp's own mix without an importance matrix, and in llama.cpp."""
    row = catalogue.all_variants()[name]
    plain = replace(row, options={"ftype": row.options["ftype"]})
    (cost, bytes_), (plain_cost, plain_bytes) = (
        cost_and_size(gguf, v, real_model, real_reference, tmp_path_factory) for v in (with_calibration(row), plain)
    )
    assert cost <= part * plain_cost
    assert bytes_ <= plain_bytes + 300
