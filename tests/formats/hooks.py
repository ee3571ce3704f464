"""What tests and benchmarks ask a format: HOOKS of hooks.py in the folder of its own tests, found by its name."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bot import format_folders
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain

Damage = Callable[[Path], None]  #: does harm to the files of an artifact in a folder, or to those of a checkpoint


@dataclass(frozen=True, kw_only=True)
class Journey:
    """What a user of a format does: a program that loads a published variant, and prints the ids that it generates.

    Its first argument is the repo's id or, where ``fetched`` are options of ``hf download``, the folder ``inside`` what
    that fetched; its second one is a list of pairs, the ids of a prompt and how many to generate at most, as JSON.
    """

    variant: str
    program: str
    fetched: tuple[str, ...] | None = None
    inside: str = ""


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """How a person makes the files of a format without phi-bot.

    ``commands`` of a variant, a toolchain, a source and a folder make it in ``out`` in that folder. ``memory`` is what
    they take for each parameter, in bytes, as measured on 3.8 billion; None where that follows from what is written.
    ``between`` are the bytes for each parameter of files that come and go.
    """

    commands: Callable[[Variant, Toolchain, Path, Path], Iterator[list[str]]]
    memory: float | None
    between: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What is known of a format.

    ``faults`` are the negative controls (tests/controls/faults.py) that are put into a built file in the format's own
    way, by their names; one that is missing makes no sense in the format. ``seen_by`` names the check that finds one
    first, where that is another than in other formats. ``files`` are the names and texts of a made-up artifact,
    ``published`` the names of a real one's; ``{model}`` and ``{name}`` stand for those. ``versions`` and ``runtime``
    are as a record has them. ``most_memory`` is what building a row of Phi-4's width may take, in bytes resident.
    ``refused`` are the families (docs/families.md) that its toolchain cannot build.
    """

    journey: Journey
    by_hand: ByHand
    faults: Mapping[str, Damage]
    files: Mapping[str, str]
    published: tuple[str, ...]
    versions: Mapping[str, str]
    runtime: str
    most_memory: float
    seen_by: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


@cache
def hooks(name: str) -> Hooks:
    """Return what is known of a format. Raises ModuleNotFoundError for one without hooks.py."""
    found: Hooks = importlib.import_module(f"tests.formats.{name}.hooks").HOOKS
    return found


def all_hooks() -> dict[str, Hooks]:
    """Return those of every format, in the order in which formats are listed."""
    return {name: hooks(name) for name in format_folders.looks()}
