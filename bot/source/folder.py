"""A source model as a folder: which release it is, whether it is whole, and the view of it that toolchains read."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bot.errors import AdapterError, UnknownModelError, UnsafeFileNameError
from bot.progress import Task
from bot.records.artifacts import Json, Release, SourceFile
from bot.records.digests import ADAPTER_CONFIG, CONTENT_FILES, content_digest
from bot.source.adapters import adapter_files, is_adapter
from bot.source.card import read_card
from bot.source.changes import WEIGHTS, vocabulary_of
from bot.source.config import check_config, layout_of, read_config, without_code
from bot.source.copies import as_written
from bot.source.joined import JoinedFile, copy_data, joined_files
from bot.source.listing import INDEX, INDEX_BYTES, folder_paths, list_folder
from bot.source.lora import Lora, read_lora
from bot.source.meaning import respelled
from bot.source.merged import adapted
from bot.source.names import check_name, safe_name
from bot.source.new_files import write_headers
from bot.source.prefixes import bare_names, prefix_note
from bot.source.safetensors_files import check_weights, read_header, read_weights
from bot.source.sizes import check_sizes, largest
from bot.source.strict import read_object, without_mark
from bot.source.tensors import as_stored, read_tensors
from bot.source.text_parts import TEXT_PARTS, left_out_of, said
from bot.source.tokenizer import check_tokenizer, damaged_tokenizer
from bot.source.tokens import check_tokens, flag_notes, possible_ids, template_notes

_LFS_BYTES = 10_000_000  # the Hub takes no larger file but as LFS
_CHUNK = 1 << 20
WRITTEN = "as-written"  #: the folder in a view of a copy that holds it as it was saved
_SETTLED_SECONDS = 2.0  # a file may change twice within one tick of its clock


FindBase = Callable[[Lora], Release]
"""Returns the release on the Hub that an adapter's config names as its base."""


def local_release(folder: Path, task: Task | None = None, *, base: FindBase | None = None) -> Release:
    """Return the release that a local folder is; hashing its weights is what takes time.

    Digests are those that the Hub would give the same files, so the same model has the same content digest here and
    there. An adapter is one with its base: ``base`` finds it where it is on the Hub; without it, AdapterError is
    raised. Raises UnknownModelError when there is no such folder, and what ``check`` raises for config.json, for a
    missing shard, and for a file that is a link out of the folder.
    """
    if not folder.is_dir():
        raise UnknownModelError(f"there is no folder {folder}", hint="Give owner/name for a model on the Hub.")
    folder = folder.resolve()
    if base is not None and is_adapter(paths := folder_paths(folder)):
        return _local_adapter(folder, paths, base, task)
    there = read_config(folder) if (folder / "config.json").exists() else {}
    listing = list_folder(folder)  # says of a folder without config.json what it is instead
    layout = layout_of(there)
    config, read = _read(folder, there)
    left_out = left_out_of(check_weights(folder), layout, where=str(folder)) if layout in TEXT_PARTS else None
    found = _wanted_files(folder, listing.files)
    _check_sizes(found, folder)
    files = _digests(found, task)
    return Release(
        repo_id=f"local/{safe_name(folder.name)}",
        commit=None,
        content_digest=content_digest(files),
        files=files,
        config=config,
        card=read_card(folder),
        folder=str(folder),
        notes=listing.notes,
        layout=layout,
        read_as=said(layout, left_out) if left_out else read[0] if layout else "",
        left_out=left_out,
    )


def _local_adapter(folder: Path, paths: list[str], base: FindBase, task: Task | None) -> Release:
    """Return the release that an adapter in a folder is with its base.

    The base may be in a folder too, for the person has given this one. A folder is meant by an absolute path and by one
    that begins with a dot, which leads from the adapter's own folder; anything else is on the Hub. In what the Hub's
    own cache holds, which is a repo's and no one's here, a folder is never followed.
    """
    where = str(folder)
    try:
        config = read_object(folder / ADAPTER_CONFIG, limit=largest(ADAPTER_CONFIG))
    except ValueError as error:
        raise AdapterError(f"{ADAPTER_CONFIG} of {where} {error}", hint="Save the adapter again with peft.") from error
    lora = read_lora(config, where=where)
    found = _wanted_files(folder, adapter_files(paths, where=where))
    _check_sizes(found, folder)
    header = read_header(folder / WEIGHTS)
    files = _digests(found, task)
    own = Release(
        repo_id=f"local/{safe_name(folder.name)}",
        commit=None,
        content_digest=content_digest(files),
        files=files,
        config={},
        card=read_card(folder),
        folder=where,
        adapter=config,
    )
    path = Path(lora.base)
    if not (path.is_absolute() or lora.base.startswith(".")):
        return adapted(own, base(lora), vocabulary_of(header))
    if _home(folder) != folder:
        raise AdapterError(
            f"{where} is an adapter of {lora.base[:100]!a}, a folder of whoever made it",
            hint=f"Copy it out of the Hub's cache, and write the base as owner/name into {ADAPTER_CONFIG}.",
        )
    if not (folder / path).is_dir():
        raise AdapterError(
            f"{where} is an adapter of {lora.base[:100]!a}, and there is no such folder here",
            hint=f"Write the base as owner/name, or where it is here, into {ADAPTER_CONFIG}.",
        )
    return adapted(own, local_release(folder / path, task), vocabulary_of(header))


def check(folder: Path) -> None:
    """Check that a folder holds a whole model in which nothing leads out of it.

    Raises MissingConfigError, UnsafeFileNameError, PicklesOnlyError, DamagedWeightsError or DamagedTokenizerError,
    naming the file at fault, and what ``check_config`` raises.
    """
    _wanted_files(folder, list_folder(folder).files)
    there = read_config(folder)
    config, _ = _read(folder, there)
    read_tensors(check_weights(folder), config, layout=layout_of(there), where=str(folder))
    check_tokenizer(folder)
    check_tokens(folder, config)


def stage(folder: Path, out: Path, *, holes: bool = False) -> tuple[str, ...]:
    """Make the view of a checked model that toolchains read, in the new folder ``out``; return notes for a person.

    It holds the weights that count (linked, not copied), configuration, tokenizer and licence texts: no code, and
    nothing that asks for any. Of a copy it holds the joined weights, copied or with ``holes`` where they are to stream,
    and in the folder WRITTEN the copy as it was saved, linked. Of a model whose text part is read it holds that
    alone. Weights that are stored under a prefix are copied, or have holes, in both. Raises RemoteCodeError for a model
    that cannot be read without code from its repo.
    """
    there = read_config(folder)
    layout = layout_of(there)
    config, read = _read(folder, there)
    tensors, owner = read_weights(folder)
    names = bare_names(tensors, where=str(folder))
    prefix = prefix_note(names)
    config, stored = as_stored(config, names)
    joined, written = rewritten(folder)
    notes = _view(folder, out, config, None if joined else owner)
    if layout in TEXT_PARTS:
        read = (said(layout, left_out_of(tensors, layout, where=str(folder))), *read)
    elif layout:
        meant, _ = as_stored(respelled(there), names)
        _view(folder, out / WRITTEN, as_written(meant, layout), None if written else owner)
    for files, into in ((joined, out), (written, out / WRITTEN)):
        if files:
            write_headers(files, into)
            if not holes:
                copy_data(files, folder, tensors, owner, into)
    return (*read, *filter(None, [prefix]), *stored, *template_notes(folder), *flag_notes(folder), *notes)


def rewritten(folder: Path) -> tuple[list[JoinedFile], list[JoinedFile]]:
    """Return the files of weights that ``stage`` writes into the view of a checked model, and into its folder WRITTEN.

    There are none where it links those that are stored. Their parts are what the tensors in them are stored as.
    """
    tensors, owner = read_weights(folder)
    layout, where = layout_of(read_config(folder)), str(folder)
    renamed = any(name != stored for name, stored in bare_names(tensors, where=where).items())
    files = joined_files(tensors, _renamed(owner), layout, where=where) if layout or renamed else []
    copied = renamed and layout and layout not in TEXT_PARTS
    return files, joined_files(tensors, _renamed(owner), "", where=where) if copied else []


def _view(folder: Path, out: Path, config: dict[str, Json], owner: Mapping[str, str] | None) -> list[str]:
    """Make a view of a model whose config.json means ``config``; return notes.

    ``owner`` names the file that each tensor is in. Without it the view has no weights.
    """
    listing = list_folder(folder)
    names = _names_for_all(listing.weights)
    paths = _wanted_files(folder, listing.files)
    _check_sizes(paths, folder)
    notes: list[str] = []
    out.mkdir(parents=True)
    for path in paths:
        if path.name in {*names, INDEX}:
            if owner is None:
                continue
            if path.name == INDEX:
                _copy_index(path, out / INDEX, _renamed(owner))
            else:
                _link(path, out / names[path.name])
        elif path.name.endswith("config.json"):
            notes += _copy_config(path, out / path.name, config)
        elif path.name in CONTENT_FILES and path.name.endswith(".json"):
            (out / path.name).write_bytes(without_mark(path.read_bytes()))
        else:
            shutil.copyfile(path, out / path.name)
    return notes


def _renamed(owner: Mapping[str, str]) -> dict[str, str]:
    """Return the files that tensors are in, by their names in a view."""
    names = _names_for_all(tuple(sorted(set(owner.values()))))
    return {tensor: names[name] for tensor, name in owner.items()}


def _read(folder: Path, there: dict[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return what the config.json of a folder means. Raises what ``check_config`` raises, and DamagedTokenizerError."""

    def read(name: str) -> dict[str, Json]:
        try:
            return read_object(folder / name, limit=largest(name)) if (folder / name).is_file() else {}
        except ValueError as error:
            raise damaged_tokenizer(name, error) from error

    return check_config(there, where=str(folder), read=read)


def file_digest(path: Path, *, lfs: bool, report: Callable[[int], None] = lambda _: None) -> str:
    """Return a file's digest as the Hub lists it: ``sha256:…`` for an LFS file, else ``git:…``, the blob's sha1.

    ``report`` is called with the number of bytes of each piece that was read.
    """
    with path.open("rb") as file:
        return _digest(iter(lambda: file.read(_CHUNK), b""), path.stat().st_size, lfs=lfs, report=report)


def bytes_digest(content: bytes, *, lfs: bool) -> str:
    """Return the digest of a file's content as the Hub lists it."""
    return _digest((content,), len(content), lfs=lfs, report=lambda _: None)


def _digest(pieces: Iterable[bytes], size: int, *, lfs: bool, report: Callable[[int], None]) -> str:
    digest = hashlib.sha256() if lfs else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
        report(len(piece))
    return f"{'sha256' if lfs else 'git'}:{digest.hexdigest()}"


def _wanted_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of a folder that count, in the order of their ``names``: regular files only."""
    paths = [folder / name for name in names if (folder / name).is_file()]
    for path in paths:
        check_name(path.name, where=str(folder))
        if path.is_symlink() and not path.resolve().is_relative_to(_home(folder)):
            raise UnsafeFileNameError(
                f"{path.name} in {folder} is a link out of it", hint="Put the file itself in its place."
            )
    return paths


def _check_sizes(paths: Iterable[Path], folder: Path) -> None:
    check_sizes(((path.name, path.stat().st_size) for path in paths), where=str(folder))


def _home(folder: Path) -> Path:
    """Return the folder that links may point into: the model's own, or the whole cache of huggingface_hub.

    There a model is CACHE/models--OWNER--NAME/snapshots/COMMIT, full of links to blobs elsewhere in CACHE.
    """
    folder = folder.resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parents[2]
    return folder


def _digests(paths: list[Path], task: Task | None) -> tuple[SourceFile, ...]:
    """Hash files, two at a time: hashing, and not the disk, is what one at a time would wait for."""
    sizes = [p.stat().st_size for p in paths]
    done, total, alone = 0, sum(sizes), threading.Lock()

    def report(count: int) -> None:
        nonlocal done
        with alone:
            done += count
            if task is not None:
                task.update("hashing", done, total, "bytes")

    def hashed(path: Path, size: int) -> SourceFile:
        lfs = path.suffix == ".safetensors" or path.name == "tokenizer.model" or size > _LFS_BYTES
        return SourceFile(path=path.name, size=size, digest=_remembered(path, lfs=lfs, report=report))

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(hashed, paths, sizes))


_seen: dict[tuple[int, ...], str] = {}  # by all that changes when a file does


def _remembered(path: Path, *, lfs: bool, report: Callable[[int], None]) -> str:
    """Return a file's digest. A large one is read once in a process: who plans and then builds asks twice."""
    key = _identity(path, lfs=lfs)
    if key in _seen:
        report(path.stat().st_size)
        return _seen[key]
    digest = file_digest(path, lfs=lfs, report=report)
    if _identity(path, lfs=lfs) == key and time.time() - path.stat().st_ctime > _SETTLED_SECONDS:
        _seen[key] = digest
    return digest


def _identity(path: Path, *, lfs: bool) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, lfs


def _names_for_all(weights: tuple[str, ...]) -> dict[str, str]:
    """Return what files of weights are called in the view: their own names, unless some tools would not see them."""
    if all(name.startswith("model") for name in weights):
        return {name: name for name in weights}
    return {name: f"model-{n:05d}-of-{len(weights):05d}.safetensors" for n, name in enumerate(weights, 1)}


def _copy_index(path: Path, out: Path, owner: dict[str, str]) -> None:
    """Copy the index, which names each tensor that is there and its file: of one that it leaves out, tools differ."""
    given = read_object(path, limit=INDEX_BYTES)
    if given["weight_map"] == owner:
        out.write_bytes(without_mark(path.read_bytes()))
    else:
        out.write_text(json.dumps(given | {"weight_map": owner}, indent=2) + "\n", encoding="utf-8")


def _copy_config(path: Path, out: Path, model: dict[str, Json]) -> list[str]:
    """Copy a configuration file as toolchains are to read it, and return notes; ``model`` is what config.json means."""
    given = read_object(path, limit=largest(path.name))
    meant = model if path.name == "config.json" else given
    clean, notes = possible_ids(path.name, without_code(meant), model.get("vocab_size"))
    if clean == given:
        out.write_bytes(without_mark(path.read_bytes()))
    else:
        out.write_text(json.dumps(clean, indent=2) + "\n", encoding="utf-8")
    return notes


def _link(path: Path, out: Path) -> None:
    path = path.resolve()
    try:
        os.link(path, out)
    except OSError:  # another file system, or a file of another user
        out.symlink_to(path)
