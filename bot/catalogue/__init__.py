"""The catalogue of variants: gathers the rows of all formats, and finds some by name."""

import difflib
from collections.abc import Iterable
from functools import cache

from bot import devices, format_folders
from bot.errors import RecordError, UnknownVariantError
from bot.records.artifacts import MalformedRecordError, Variant


@cache
def all_variants() -> dict[str, Variant]:
    """Return every row by its name, in the order of the formats (look.toml) and of their files.

    Raises RecordError for a row that is not a Variant, or is for a device that is not in the table of devices.
    """
    return {variant.name: variant for variant in map(_variant, format_folders.rows())}


def _variant(row: dict[str, object]) -> Variant:
    try:
        variant = Variant.from_json(row)
    except MalformedRecordError as error:
        raise RecordError(f"variants.toml: the row {row.get('name')!r}: {error}", hint="Mend that row.") from error
    if variant.target not in devices.names():
        raise RecordError(
            f"variants.toml: {variant.name} is for the device {variant.target!r}, which there is not",
            hint=f"Name one of {', '.join(devices.names())}, or add a row to bot/devices/devices.toml.",
        )
    return variant


def select(names: Iterable[str]) -> tuple[Variant, ...]:
    """Return the rows that names ask for, in the order of the catalogue, each once.

    A name is a row's (``gguf/q4_k_m``), ``default`` (the default set), ``FORMAT`` (the default rows of one format) or
    ``FORMAT/*`` (all of its rows). Raises UnknownVariantError, with the nearest names, for any other.
    """
    catalogue = all_variants()
    formats = {v.format for v in catalogue.values()}
    wanted: set[str] = set()
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
        else:
            near = difflib.get_close_matches(name.lower(), [*catalogue, *formats, "default"], n=3, cutoff=0.4)
            hint = f"Did you mean {', '.join(near)}? " if near else ""
            raise UnknownVariantError(f"unknown variant {name!r}", hint=f"{hint}`phi-bot variants` lists them all.")
    return tuple(v for n, v in catalogue.items() if n in wanted)
