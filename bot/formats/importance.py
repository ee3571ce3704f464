"""Importance: the interface of a format that quantizes by an importance matrix."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The way a format's worker measures an importance matrix, and the recipes that gain by one.

    ``command`` of the worker takes an ImportanceTask and leaves ``file`` in its folder; it returns ``sha256`` of that
    file, ``chunks`` and ``tokens`` read, ``peak_memory`` in bytes and ``seconds``. The model that it runs is the
    variant ``measured_on``, by its short name: as good as the original, and small. ``tried`` are the precisions that
    may gain by a matrix, and may lose by it: of these ``build.imatrix_from_4_bits`` has both built. A row that has one
    in any case says so itself, by the option ``imatrix``. Raise ``version`` when the command measures something else on
    the same inputs: it is part of the build keys of what takes a matrix.
    """

    command: str
    measured_on: str
    file: str
    tried: tuple[str, ...]
    version: int = 1
