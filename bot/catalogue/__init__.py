"""The catalogue of variants: gathers the rows of all formats, and finds some by name."""

import difflib
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from bot import devices, format_folders
from bot.catalogue import sizes
from bot.catalogue.sizes import SizedRow
from bot.errors import RecordError, UnknownVariantError
from bot.records.artifacts import MalformedRecordError, Variant

Row = TypeVar("Row", Variant, SizedRow)


@cache
def all_variants() -> dict[str, Variant]:
    """Return every row by its name, in the order of the formats (look.toml) and of their files.

    Rows that take a size are not among them. Raises RecordError for a row that is not a Variant, or is for a device
    that is not in the table of devices.
    """
    return {
        variant.name: variant for variant in (_read(Variant, row, "variants.toml") for row in format_folders.rows())
    }


@cache
def sized_rows() -> dict[str, SizedRow]:
    """Return every row that takes a size by its name, in the same order. Raises what ``all_variants`` raises."""
    return {row.name: row for row in (_read(SizedRow, row, "sized.toml") for row in format_folders.sized_rows())}


def _read(kind: type[Row], row: dict[str, object], file: str) -> Row:
    try:
        found = kind.from_json(row)
    except MalformedRecordError as error:
        raise RecordError(f"{file}: the row {row.get('name')!r}: {error}", hint="Mend that row.") from error
    if found.target not in devices.names():
        raise RecordError(
            f"{file}: {found.name} is for the device {found.target!r}, which there is not",
            hint=f"Name one of {', '.join(devices.names())}, or add a row to bot/devices/devices.toml.",
        )
    return found


def select(names: Iterable[str]) -> tuple[Variant, ...]:
    """Return the rows that names ask for, in the order of the catalogue, each once.

    A name is a row's (``gguf/q4_k_m``), one with a size (``gguf/fit:4.2GB``: behind the rows of its format, by size),
    ``default`` (the default set), ``FORMAT`` (the default rows of one format) or ``FORMAT/*`` (all of its rows). Raises
    UnknownVariantError, with the nearest names, for any other.
    """
    catalogue = all_variants()
    formats = {v.format for v in catalogue.values()}
    wanted: set[str] = set()
    sized: dict[str, Variant] = {}
    for name in names:
        if name == "default":
            wanted |= {n for n, v in catalogue.items() if v.default}
        elif name in catalogue:
            wanted.add(name)
        elif name in formats:
            mine = {n: v.default for n, v in catalogue.items() if v.format == name}  # or all, where none is default
            wanted |= {n for n, default in mine.items() if default or not any(mine.values())}
        elif name.removesuffix("/*") in formats:
            wanted |= {n for n, v in catalogue.items() if v.format == name.removesuffix("/*")}
        elif (found := sizes.find(name, sized_rows().values())) is not None:
            sized[found.name] = found
        else:
            patterns = [row.pattern for row in sized_rows().values()]
            near = difflib.get_close_matches(
                name.lower(), [*catalogue, *patterns, *formats, "default"], n=3, cutoff=0.4
            )
            hint = f"Did you mean {', '.join(near)}? " if near else ""
            raise UnknownVariantError(f"unknown variant {name!r}", hint=f"{hint}`phi-bot variants` lists them all.")
    order = list(dict.fromkeys(v.format for v in catalogue.values()))
    rows = [v for n, v in catalogue.items() if n in wanted] + sorted(sized.values(), key=lambda v: v.size_limit or 0)
    return tuple(sorted(rows, key=lambda v: order.index(v.format)))


def known(name: str) -> Variant | None:
    """Return the one row, or the variant with a size, that a name is of; None of any other name, and of a set of rows.

    The name of a size may be spelled in several ways: the variant's own is the shortest of them.
    """
    if name in all_variants():
        return all_variants()[name]
    try:
        return sizes.find(name, sized_rows().values())
    except UnknownVariantError:
        return None


def decided(variant: Variant, weights: int) -> Variant:
    """Return a variant as it is of a model of so many weights: one with a size has a precision then."""
    row = _sized_row_of(variant)
    return variant if row is None else row.decided(variant, weights)


def objection(variant: Variant, weights: int) -> str | None:
    """Say why there cannot be such a variant of a model of so many weights, None where there may be."""
    row, size = _sized_row_of(variant), variant.size_limit
    return None if row is None or size is None else row.objection(size, weights)


def _sized_row_of(variant: Variant) -> SizedRow | None:
    return sized_rows().get(variant.name.partition(sizes.MARK)[0])
