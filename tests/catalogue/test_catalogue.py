"""The catalogue: what its rows promise, and which names find them."""

import tomllib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import format_folders, toolchains
from bot.catalogue import all_variants, select
from bot.errors import UnknownVariantError
from bot.formats.registry import all_formats
from bot.records.artifacts import Variant
from bot.records.digests import build_key

ROWS = list(all_variants().values())
FORMATS = sorted({row.format for row in ROWS})
ASKED_FOR = {"torch"}  #: formats that are built only where they are asked for: none of their rows is default
row = pytest.mark.parametrize("row", ROWS, ids=[r.name for r in ROWS])


# ---- the rows ------------------------------------------------------------------------------------------------


def test_no_row_hides_another() -> None:
    assert [r["name"] for r in format_folders.rows()] == [r.name for r in ROWS]


def test_rows_of_formats_come_in_the_order_of_their_looks() -> None:
    assert list(dict.fromkeys(r.format for r in ROWS)) == ["gguf", "onnx", "openvino", "mlx", "torch"]


def test_rows_of_a_folder_are_of_its_format() -> None:
    for name in format_folders.names():
        written = tomllib.loads(format_folders.file_of(name, "variants.toml").read_text(encoding="utf-8"))["variant"]
        assert {row["name"].partition("/")[0] for row in written} == {name}


def test_rows_of_a_format_stand_together() -> None:
    assert [f for i, f in enumerate(r.format for r in ROWS) if i == 0 or ROWS[i - 1].format != f] == list(
        dict.fromkeys(r.format for r in ROWS)
    )


@row
def test_a_row_belongs_to_a_format_with_a_toolchain(row: Variant) -> None:
    assert row.format in all_formats()
    assert row.format in toolchains.names()


@row
def test_a_row_states_its_purpose_in_one_line(row: Variant) -> None:
    assert row.summary
    assert row.summary.isprintable()
    assert len(row.summary) <= 90


@row
def test_an_estimate_is_near_the_precision_that_a_row_claims(row: Variant) -> None:
    bits = int(row.precision.removeprefix("int").removeprefix("bf").removeprefix("fp"))
    assert bits <= row.bits_per_weight <= bits * 1.5 + 1


def test_two_rows_are_two_recipes() -> None:
    keys = Counter(build_key(content_digest="r", variant=r, toolchain_digest=r.format, format_version=1) for r in ROWS)
    assert keys.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", ["gguf", "mlx", "onnx", "openvino"])  # whose tools have all four
def test_every_common_precision_is_offered(name: str) -> None:
    assert {"int4", "int8", "fp16", "fp32"} <= {r.precision for r in ROWS if r.format == name}


def test_the_default_set_is_small_and_has_rows_for_a_plain_processor() -> None:
    default = select(["default"])
    assert {r.format for r in default} == set(FORMATS) - ASKED_FOR
    assert len(default) <= 2 * len(FORMATS)
    assert all(r.target == "cpu" for r in default)


# ---- finding them --------------------------------------------------------------------------------------------


def test_a_row_is_found_by_its_name() -> None:
    assert [v.name for v in select(["gguf/q4_k_m"])] == ["gguf/q4_k_m"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_stands_for_its_default_rows_and_a_star_for_all(name: str) -> None:
    assert select([name]) == tuple(r for r in ROWS if r.format == name and (r.default or name in ASKED_FOR))
    assert select([f"{name}/*"]) == tuple(r for r in ROWS if r.format == name)


def test_nothing_asked_for_is_nothing_found() -> None:
    assert select([]) == ()


@given(st.lists(st.sampled_from([*all_variants(), *FORMATS, *(f"{f}/*" for f in FORMATS), "default"]), max_size=5))
def test_rows_come_once_each_in_the_order_of_the_catalogue(names: list[str]) -> None:
    found = select(names)
    assert list(found) == [r for r in ROWS if r in found]
    assert set(found_names := [r.name for r in found]) == {r.name for n in names for r in select([n])}
    assert len(found_names) == len(set(found_names))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gguf/q4km", "gguf/q4_k_m"),
        ("Q4_K_M", "gguf/q4_k_m"),
        ("GGUF/Q4_K_M", "gguf/q4_k_m"),
        ("opnvino", "openvino"),
        ("mlx/4-bit", "mlx/4bit"),
        ("defaults", "default"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_meant(name: str, meant: str) -> None:
    with pytest.raises(UnknownVariantError) as caught:
        select(["default", name])
    assert caught.value.message == f"unknown variant {name!r}"
    assert meant in caught.value.hint.split("?")[0]
    assert "phi-bot variants" in caught.value.hint


@given(st.text("gufmlx/*_ 4\n\x1b", max_size=12))
def test_any_other_name_is_refused_in_one_line(name: str) -> None:
    try:
        select([name])
    except UnknownVariantError as error:
        line = f"{error.message} {error.hint}"
        assert line.isprintable()
    else:
        assert name in {"gguf", "mlx", "gguf/*", "mlx/*"}
