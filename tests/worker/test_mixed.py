"""Types of matrices that are chosen by what rounding to them costs, in formats whose levels the solver knows itself.

Of GGUF, whose types are the quantizer's, see tests/formats/gguf/worker/test_mix.py.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from bot import catalogue
from bot.formats.recipes import with_calibration
from bot.progress import Silent
from bot.records.artifacts import TypesByCost, Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.real import cost_and_size
from tests.worker.running import Built, assert_proven, build, build_once, measure
from tests.worker.stock import assert_same

pytestmark = pytest.mark.toolchain

_GRAPH = 40_000  # bytes that a graph may have more: a type has nodes of its own, which say what they are


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row whose types are chosen, and what it may cost on the real model, as a part of what the plain file does."""

    plain: Variant
    cost: float

    @property
    def variant(self) -> Variant:
        """The calibrated row."""
        return with_calibration(self.plain)

    @property
    def toolchain(self) -> Toolchain:
        return ensure(self.plain.format, Silent())


ROWS = {
    "onnx": Row(plain=catalogue.all_variants()["onnx/cpu-int4"], cost=0.34),
    "openvino": Row(plain=catalogue.all_variants()["openvino/int4"], cost=0.30),
}


@pytest.fixture(scope="module", params=ROWS.values(), ids=list(ROWS))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def whole(row: Row, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's file of chosen types: to be read only."""
    return build_once(tmp_path_factory, row.toolchain, sample, [row.variant], f"{row.plain.format} types by cost")


def said(built: Built, variant: Variant) -> TypesByCost:
    [event] = [e for e in built.events if e["event"] == "built" and e["variant"] == variant.name]
    return TypesByCost.from_json(event["types_by_cost"])


def size(built: Built, variant: Variant) -> int:
    return sum(map(len, built.files(variant.name).values()))


def test_it_has_no_more_bytes_and_says_which_types_it_has(
    row: Row, whole: Built, request: pytest.FixtureRequest
) -> None:
    plain: Built = request.getfixturevalue(f"{row.plain.format}_files")
    assert size(whole, row.variant) <= size(plain, row.plain) + _GRAPH
    chosen = said(whole, row.variant)
    assert chosen.own_kl is not None
    assert chosen.predicted_kl <= chosen.own_kl
    names = [name for matrices in chosen.types.values() for name in matrices]
    assert len(set(names)) == len(names)
    layers = {f"model.layers.0.{name}.weight" for name in ("self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")}
    assert layers <= set(names)
    assert len(chosen.types) > 1 or not chosen.gains


def test_it_passes_every_check(row: Row, whole: Built, sample: Path, reference: Path, tmp_path: Path) -> None:
    artifact = whole.folders[row.variant.name]
    assert_proven(measure(row.toolchain, artifact, row.variant, sample, reference, tmp_path / "log"), 0.1)


def test_the_number_of_threads_changes_no_byte(row: Row, whole: Built, sample: Path, tmp_path: Path) -> None:
    again = build(row.toolchain, sample, [row.variant], tmp_path / "job", threads=1, log=tmp_path / "log")
    assert_same(again, whole)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_it_costs_much_less_on_the_real_model(
    row: Row, real_model: Path, real_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In no more bytes than the plain file, and in the format's own runtime."""
    (cost, bytes_), (plain_cost, plain_bytes) = (
        cost_and_size(row.toolchain, variant, real_model, real_reference, tmp_path_factory)
        for variant in (row.variant, row.plain)
    )
    assert cost <= row.cost * plain_cost
    assert bytes_ <= plain_bytes + _GRAPH
