"""Rows that take a size from a person: ``FORMAT/NAME:SIZE``, as in ``gguf/fit:4.2GB``.

All files of such a variant have at most so many bytes, and the format's worker makes the best of them. What a size
means depends on the model. Before that is known, a variant has no precision; ``decided`` gives it one, by the bits that
its size leaves for each weight. The build key has the size, and not the precision (bot/records/digests.py).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context, Decimal

from bot.errors import UnknownVariantError
from bot.printable import size as shown_size
from bot.records.artifacts import SIZE, Json, Record, Variant, VariantName

MARK = ":"  #: between the name of a row and a size
PLACEHOLDER = "SIZE"  #: stands for one where rows are listed
_UNITS = {"GB": 10**9, "MB": 10**6, "GiB": 1 << 30, "MiB": 1 << 20}
_SIZE = re.compile(r"(\d{1,6})(?:\.(\d{1,9}))?(gb|mb|gib|mib)", re.IGNORECASE | re.ASCII)
_DECIMALS = 9
_EXACT = Context(prec=60)


@dataclass(frozen=True, kw_only=True)
class SizedRow(Record):
    """A row that takes a size, from a format's sized.toml.

    ``precisions`` are the classes that gates and cards speak of, each with the bits a weight from which on a file is of
    it; the least of them is the smallest type of all tensors. ``most_bits`` is the largest. Name, summary, target and
    options are as in Variant.
    """

    name: VariantName
    summary: str
    precisions: dict[str, float]
    most_bits: float
    target: str = "cpu"
    options: dict[str, Json] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """``gguf`` of ``gguf/fit``."""
        return self.name.split("/", 1)[0]

    @property
    def pattern(self) -> str:
        """The name as people are told it: ``gguf/fit:SIZE``."""
        return f"{self.name}{MARK}{PLACEHOLDER}"

    @property
    def least_bits(self) -> float:
        """The bits a weight of the smallest file."""
        return min(self.precisions.values())

    def of(self, size: int) -> Variant:
        """Return the variant of a size in bytes, whose precision is not known yet."""
        return Variant(
            name=f"{self.name}{MARK}{written(size)}",
            precision="",
            bits_per_weight=0.0,
            summary=self.summary,
            target=self.target,
            options=self.options | {SIZE: size},
        )

    def sizes(self, weights: int) -> tuple[int, int]:
        """Return the smallest and the largest bytes of so many weights. What else a file holds is not in them."""
        return round(weights * self.least_bits / 8), round(weights * self.most_bits / 8)

    def objection(self, size: int, weights: int) -> str | None:
        """Say why a model of so many weights cannot have a file of a size, None where it may."""
        least, most = self.sizes(weights)
        if least <= size <= most:
            return None
        wrong = "small" if size < least else "large"
        return (
            f"{written(size)} is too {wrong} for {self.name}: of this model it takes from about {shown_size(least)} to "
            f"{shown_size(most)}, {self.least_bits:g} to {self.most_bits:g} bits for each weight"
        )

    def decided(self, variant: Variant, weights: int) -> Variant:
        """Return a variant of this row as it is of a model of so many weights: with a precision, and its bits."""
        bits = round((variant.size_limit or 0) * 8 / max(weights, 1), 3)
        classes = sorted(self.precisions, key=self.precisions.__getitem__)
        below = [name for name in classes if self.precisions[name] <= bits]
        return replace(variant, precision=(below or classes[:1])[-1], bits_per_weight=bits)


def find(name: str, rows: Iterable[SizedRow]) -> Variant | None:
    """Return the variant that a name with a size means, None where the name is not of one of the rows.

    Raises UnknownVariantError, with the forms that are allowed, where the size is missing or is not one.
    """
    before, _, size = name.partition(MARK)
    row = next((r for r in rows if r.name == before), None)
    if row is None:
        return None
    found = read(size)
    if found is None:
        raise UnknownVariantError(
            f"unknown variant {name!r}",
            hint=f"{row.name} takes a size, a number and one of GB and MB (of 1000) or GiB and MiB (of 1024): "
            f"{row.name}{MARK}4.2GB. `phi-bot variants MODEL` says how small and how large it may be.",
        )
    return row.of(found)


def read(text: str) -> int | None:
    """Return the whole bytes of a size as people write it (``4.2GB``, ``900MiB``); None of anything else, and of 0."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    units = {name.lower(): unit for name, unit in _UNITS.items()}
    number = Decimal(f"{match[1]}.{match[2] or 0}")
    return int(_EXACT.multiply(number, units[match[3].lower()])) or None


def written(size: int) -> str:
    """Return the shortest text that ``read`` gives a size in bytes for: two sizes have two.

    Of equally short ones it is that of the larger unit, if there is a whole one.
    """
    found = [text for name, unit in _UNITS.items() if (text := _in_unit(size, name, unit)) is not None]
    whole = [text for text in found if not text.startswith("0")]
    return min(whole or found, key=len)


def _in_unit(size: int, name: str, unit: int) -> str | None:
    exact = _EXACT.divide(Decimal(size), unit)
    for decimals in range(_DECIMALS + 1):
        rounded = exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_CEILING, context=_EXACT)
        if read(text := f"{rounded:f}{name}") == size:
            return text
    return None
