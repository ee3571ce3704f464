"""Which of a model's files count: decided by their names as transformers 5 decides it, once, for all that read them.

transformers takes ``model.safetensors`` where it is there, else the shards that ``model.safetensors.index.json`` names,
and nothing else. Other tools take whatever is called ``model*.safetensors``, so what does not count is kept from them.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.errors import DamagedWeightsError, PicklesOnlyError
from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.source import sizes
from bot.source.adapters import adapters_beside, check_adapters
from bot.source.config import no_config
from bot.source.names import NOTICES, check_name
from bot.source.strict import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

INDEX_BYTES = sizes.INDEX
_MOST_FILES = 1000  # the largest models have some 200
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")

ReadJson = Callable[[str], dict[str, Json]]
"""Reads a file of the model that holds one JSON object, by its name. Raises ValueError, saying what it is instead."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of a model that count, in the order of their names.

    ``weights`` are its safetensors files, and ``files`` those and all others that are read. ``notes`` say, a line each,
    what a person could take for a part of the model and is left out.
    """

    weights: tuple[str, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_listing(paths: Iterable[str], *, where: str) -> None:
    """Check, by the names of its files alone, that a model has all its weights as safetensors.

    Raises PicklesOnlyError or DamagedWeightsError.
    """
    names = {p for p in paths if "/" not in p}
    weights = _safetensors(names)
    if len(weights) > _MOST_FILES:
        raise DamagedWeightsError(
            f"{where} has {len(weights)} files of weights", hint=f"Upload them in {_MOST_FILES} files at most."
        )
    if not weights:
        pickles = sorted(n for n in names if n.endswith(_PICKLES))
        if pickles:
            raise PicklesOnlyError(
                f"{where} has its weights only as pickles ({pickles[0]}), which are never loaded",
                hint="Ask its owner for safetensors, or convert it on a machine where running its code is safe.",
            )
        raise DamagedWeightsError(f"{where} has no weights", hint=f"Expected {SINGLE}, or {INDEX} with its shards.")
    if SINGLE in names:
        return
    sets = {match.group(1, 3) for name in weights if (match := _SHARD.fullmatch(name))}
    if INDEX not in names or len(sets) == 1:  # of several sets, the index says which one counts
        for stem, count in sorted(sets):
            for shard in _shards(stem, count):
                if shard not in names:
                    raise missing(shard, where)
    if INDEX not in names:
        raise DamagedWeightsError(
            f"{where} has {weights[0]}, but neither {SINGLE} nor {INDEX}", hint="Download or save the model again."
        )


def list_files(paths: Iterable[str], read: ReadJson, *, where: str) -> ModelFiles:
    """Return which of a model's files count, of the ``paths`` of all, which are relative to it.

    ``read`` is asked for the index only where names leave it open which shards it means. Raises what ``check_listing``
    raises, AdapterError for an adapter that is not merged, MissingConfigError, DamagedWeightsError for an index that is
    malformed or names what is not there, and UnsafeFileNameError for one that leads elsewhere.
    """
    paths = tuple(paths)
    names = {p for p in paths if "/" not in p}
    check_adapters(paths, read, where=where)
    if "config.json" not in names:
        raise no_config(where)
    check_listing(paths, where=where)
    found = _safetensors(names)
    if SINGLE in names:
        weights: tuple[str, ...] = (SINGLE,)
    elif _are_one_set(found):
        weights = tuple(found)
    else:
        weights = named_by(weight_map(read), names, where=where)
    index = {INDEX} if SINGLE not in names else set()
    others = sorted(n for n in names if n.endswith((".safetensors", ".safetensors.index.json")))
    left = [n for n in others if n not in {*weights, *index}]
    return ModelFiles(
        weights=weights,
        files=tuple(sorted({*weights, *index, *(names & (CONTENT_FILES | NOTICES))})),
        notes=(*_left_out(left, weights), *adapters_beside(paths)),
    )


def list_folder(folder: Path) -> ModelFiles:
    """Return which files of a local folder count. Raises what ``list_files`` raises."""
    return list_files(
        folder_paths(folder), lambda name: read_object(folder / name, limit=INDEX_BYTES), where=str(folder)
    )


def folder_paths(folder: Path) -> list[str]:
    """Return the paths of the files in a local folder, and in the folders in it."""
    paths: list[str] = []
    for path in folder.iterdir():
        if not path.is_dir():
            paths.append(path.name)
        elif not path.is_symlink() and os.access(path, os.R_OK | os.X_OK):
            paths += [f"{path.name}/{inner.name}" for inner in path.iterdir()]
    return paths


def weight_map(read: ReadJson) -> dict[str, str]:
    """Return which file holds each tensor, as the index says. Raises DamagedWeightsError, UnsafeFileNameError."""
    try:
        found = read(INDEX).get("weight_map")
    except ValueError as error:
        raise _damaged(str(error)) from error
    if not isinstance(found, dict) or not found or not all(isinstance(v, str) for v in found.values()):
        raise _damaged("has no weight_map from tensors to files")
    for name in set(found.values()):
        check_name(name, where=INDEX)
        if "/" in name or not name.endswith(".safetensors"):
            raise _damaged(f"names {name[:80]!a}, which is not a safetensors file beside it")
    return found


def named_by(index: Mapping[str, str], names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Return the files that an index names, in alphabetical order. Raises DamagedWeightsError for one not there."""
    there, found = set(names), sorted(set(index.values()))
    for name in found:
        if name not in there:
            raise missing(name, where)
    if len({n.casefold() for n in found}) != len(found):
        raise _damaged("names files that differ only in upper and lower case, which are one file on some systems")
    return tuple(found)


def missing(shard: str, where: str) -> DamagedWeightsError:
    """Return the error for a shard that is not there."""
    return DamagedWeightsError(f"{where} lacks the shard {shard}", hint="Download or save the model again.")


def _safetensors(names: Iterable[str]) -> list[str]:
    return sorted(n for n in names if n.endswith(".safetensors"))


def _shards(stem: str, count: str) -> list[str]:
    return [f"{stem}-{number:05d}-of-{count}.safetensors" for number in range(1, int(count) + 1)]


def _are_one_set(found: list[str]) -> bool:
    """Say whether files are all shards of one model: then no index can mean others."""
    match = _SHARD.fullmatch(found[0])
    return match is not None and found == _shards(*match.group(1, 3))


def _left_out(names: list[str], weights: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    taken = weights[0] if len(weights) == 1 else f"{weights[0]} to {weights[-1]}"
    return (f"its weights are read from {taken}, as transformers reads them; left out: {shown}",)


def _damaged(what: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{INDEX} {what}", hint="Download or save the model again.")
