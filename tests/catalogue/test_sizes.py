"""Variants with a size that a person gives: how it is written, what it means of a model, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue import decided, known, objection, select, sized_rows
from bot.catalogue.sizes import SizedRow, read, written
from bot.config.tables import CostTable
from bot.errors import UnknownVariantError
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.records.artifacts import Variant

FIT = sized_rows()["gguf/fit"]
PHI_4_MINI = 3_836_021_760  # weights
BYTES = st.integers(1, 10**15)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4.2GB", 4_200_000_000),
        ("900MB", 900_000_000),
        ("4GiB", 4 * 1024**3),
        ("0.5MiB", 512 * 1024),
        ("4.2GiB", 4_509_715_660),  # whole bytes, and no more than that
        ("4.2gb", 4_200_000_000),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert read(text) == size


@pytest.mark.parametrize("text", ["", "4.2", "GB", "4,2GB", "4.2 GB", "4.2G", "-4GB", "0GB", "1e9GB", "4.GB", "٤GB"])
def test_nothing_else_is_a_size(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("given", "short"),
    [("4200MB", "4.2GB"), ("1024MiB", "1GiB"), ("0.1GB", "100MB"), ("4.20GB", "4.2GB"), ("4.2GiB", "4.2GiB")],
)
def test_a_size_is_called_by_its_shortest_text(given: str, short: str) -> None:
    size = read(given)
    assert size is not None
    assert written(size) == short


@given(BYTES)
def test_a_size_is_read_from_what_is_written_of_it(size: int) -> None:
    """So two sizes never share a name, nor a file."""
    assert read(written(size)) == size


def test_it_stands_behind_the_rows_of_its_format_by_size() -> None:
    found = select(["mlx/4bit", "gguf/fit:4GiB", "gguf/fit:4.2GB", "gguf/q8_0", "gguf/fit:4200MB"])
    assert [v.name for v in found] == ["gguf/q8_0", "gguf/fit:4.2GB", "gguf/fit:4GiB", "mlx/4bit"]


@pytest.mark.parametrize("name", ["gguf/fit", "gguf/fit:", "gguf/fit:4.2", "gguf/fit:large"])
def test_a_missing_size_is_answered_with_the_forms_that_are_allowed(name: str) -> None:
    with pytest.raises(UnknownVariantError) as caught:
        select([name])
    assert caught.value.message == f"unknown variant {name!r}"
    assert re.search(r"GB and MB \(of 1000\) or GiB and MiB \(of 1024\): gguf/fit:4\.2GB", caught.value.hint)


def test_a_row_with_a_type_takes_no_size() -> None:
    with pytest.raises(UnknownVariantError, match="gguf/q4_k_m"):
        select(["gguf/q4_k_m:4GB"])
    assert known("gguf/q4_k_m:4GB") is None


@pytest.mark.parametrize(
    ("size", "precision"), [("1.3GB", "int2"), ("1.8GB", "int3"), ("2.4GB", "int4"), ("2.9GB", "int5"), ("4GB", "int6")]
)
def test_a_model_decides_which_precision_a_size_is(size: str, precision: str) -> None:
    [variant] = select([f"gguf/fit:{size}"])
    assert variant.precision == ""
    of_model = decided(variant, PHI_4_MINI)
    assert of_model.precision == precision
    assert of_model.bits_per_weight == pytest.approx((variant.size_limit or 0) * 8 / PHI_4_MINI, abs=0.001)
    assert decided(of_model, PHI_4_MINI) == of_model


@given(st.integers(10**6, 10**11), st.floats(0, 1))
def test_any_size_between_the_smallest_and_the_largest_is_taken(weights: int, part: float) -> None:
    least, most = FIT.sizes(weights)
    variant = FIT.of(round(least + part * (most - least)))
    assert objection(variant, weights) is None
    assert decided(variant, weights).precision in FIT.precisions
    for other, word in ((least - 1, "small"), (most + 1, "large")):
        assert f"too {word} for gguf/fit" in (objection(FIT.of(other), weights) or "")


def test_what_is_refused_says_how_small_and_how_large_it_may_be() -> None:
    said = objection(FIT.of(900_000_000), PHI_4_MINI)
    assert said == (
        "900MB is too small for gguf/fit: of this model it takes from about 1.3 GB to 4.1 GB, "
        "2.625 to 8.5 bits for each weight"
    )


def test_the_build_key_holds_the_size_and_not_what_follows_from_it() -> None:
    four, five = FIT.of(4 * 10**9), FIT.of(5 * 10**9)
    assert recipes.key_of("a" * 64, four) == recipes.key_of("a" * 64, decided(four, PHI_4_MINI))
    assert recipes.key_of("a" * 64, four) != recipes.key_of("a" * 64, five)


@pytest.mark.parametrize("row", sized_rows().values(), ids=list(sized_rows()))
def test_a_row_says_what_it_needs_to(row: SizedRow) -> None:
    assert row.format in all_formats()
    assert row.precisions.keys() <= CostTable().to_json().keys()
    assert row.least_bits < max(row.precisions.values()) < row.most_bits
    assert row.summary.isprintable()
    assert len(row.summary) <= 90


def test_quality_changes_nothing_of_it_for_it_is_calibrated_anyway() -> None:
    variant = FIT.of(4 * 10**9)
    assert variant.is_calibrated
    assert recipes.chooses_types(variant)
    assert all(recipe == variant for recipe in recipes.possible(variant))


def test_other_variants_are_what_they_were() -> None:
    variant = Variant(name="gguf/q4_k_m", precision="int4", bits_per_weight=5.0, summary="x")
    assert decided(variant, PHI_4_MINI) == variant
    assert objection(variant, 1) is None
