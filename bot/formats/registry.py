"""The formats: one folder each, all behind one small Protocol.

A format is found by its folder being here. To add one, write ``bot/formats/NAME/format.py`` with a ``FORMAT`` object,
``worker/``, ``variants.toml``, ``lock.in``, ``lock.txt`` and ``look.toml`` beside it, and ``templates/NAME.md.j2``;
nothing else changes (CONTRIBUTING.md goes through it function by function).
"""

import importlib
from functools import cache
from typing import Protocol, cast

from bot import format_folders
from bot.formats.importance import Importance
from bot.formats.needs import Needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour

__all__ = ["Format", "Importance", "Needs", "all_formats", "worker_module"]


class Format(Protocol):
    """A format, as far as the steps need to know it. Everything that runs a toolchain is in its worker."""

    name: str  #: as in ``gguf/q4_k_m``, and the name of its worker module and toolchain
    title: str  #: as a card says it: "GGUF"
    library: str  #: the Hub's ``library_name``
    version: int  #: part of the build key: raise it when the same recipe gives other bytes
    packages: tuple[str, ...]  #: the packages whose versions a record names
    suffixes: tuple[str, ...]  #: how the names of an artifact's files may end; nothing else is promoted
    importance: Importance | None  #: how it measures importance matrices; None where it quantizes by none
    calibrated: tuple[str, ...]  #: what its worker rounds by second moments if asked to: precisions, or names of rows
    mixed: tuple[str, ...]  #: the rows of these that are mixes of types, which its worker can choose by what they cost

    reading: Reading  #: what its runtime holds in memory of a file and of a text, for plans

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:
        """Say in one line why the toolchain cannot build this, or return None if it can.

        ``config`` is the source's config.json: untrusted.
        """
        ...

    def repo_suffix(self, variant: Variant) -> str:
        """Return what follows the model's name in the repo's name (``-GGUF``, ``-int4-ov``)."""
        ...

    def path_in_repo(self, variant: Variant) -> str:
        """Return the folder of the repo in which the artifact's files lie; "" is the top."""
        ...

    def needs(self, variant: Variant) -> Needs:
        """Return what building and verifying a variant needs of a machine, beside memory and disk."""
        ...

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:
        """List what this runtime is known to do differently on such a model, with the upstream reference."""
        ...

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:
        """Return the kinds of text (see texts/unusual.json) that its tokenizer reads differently, with references.

        That is so whatever the file holds. The texts of these kinds are counted, and may differ.
        """
        ...


@cache
def all_formats() -> dict[str, Format]:
    """Return every format by name, in alphabetical order."""
    modules = {name: importlib.import_module(f"bot.formats.{name}.format") for name in format_folders.names()}
    return {name: cast("Format", module.FORMAT) for name, module in modules.items()}


def worker_module(name: str) -> str:
    """Return the module that runs in a format's toolchain (see bot.toolchains.enter.run_worker)."""
    return f"bot.formats.{name}.worker"
