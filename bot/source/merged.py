"""An adapter and its base as one model: what lies beside the weights, and the files that the merged weights are in.

The merged model is a folder like any other: it has the base's config.json and the files of its weights, and the
adapter's tokenizer where it brings one. Nothing that reads it knows of an adapter.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bot.errors import AdapterError, DamagedWeightsError
from bot.records.artifacts import Json, Release, SourceFile
from bot.records.digests import CONTENT_FILES, merged_digest
from bot.source.card import inherited
from bot.source.changes import WEIGHTS, Change, changes, merged_tensors
from bot.source.config import read_config
from bot.source.lora import read_lora
from bot.source.meaning import architecture
from bot.source.merging import Adapter, Take, merge
from bot.source.names import NOTICES
from bot.source.new_files import NewFile, new_files, write_headers
from bot.source.prefixes import bare_names, prefix_note
from bot.source.safetensors_files import Tensor, read_header, read_weights
from bot.source.tensors import CLASSES_READ, EMBEDDING, HEAD

_CHUNK = 1 << 24
_TEMPLATES = frozenset({"chat_template.jinja", "chat_template.json"})
_TOKENIZERS = CONTENT_FILES - _TEMPLATES - {"config.json", "generation_config.json"}
_SAID_ANEW = frozenset({"added_tokens.json", "special_tokens_map.json"})  # tokenizer_config.json says it too
#: Files beside the weights that an adapter may bring. A config.json, which some tools leave there, is not read.
BROUGHT = _TEMPLATES | _TOKENIZERS | {"generation_config.json"}

ReadTensor = Callable[[str, Take], None]
"""Hands the bytes of a tensor of the base to a function, piece by piece."""


def adapted(own: Release, base: Release, vocabulary: int | None) -> Release:
    """Return the release that an adapter is with its base. ``own`` is the adapter without it.

    ``vocabulary`` are the rows of an embedding that it stores. What its card leaves out comes from the base's. Raises
    AdapterError for a base of a class that nothing is merged into, and what ``read_lora`` raises.
    """
    lora = read_lora(own.adapter, where=own.label)
    class_name = architecture(base.config)
    if class_name not in CLASSES_READ:
        raise AdapterError(
            f"{own.label} is an adapter of {base.label}, a {class_name[:60]!a}, into which none is merged here",
            hint="Merge it with peft (merge_and_unload(), then save_pretrained), and give the merged model.",
        )
    if base.left_out:
        raise AdapterError(
            f"{own.label} is an adapter of {base.label}, of which the text part alone is read, and into which none is "
            "merged here",
            hint="Merge it with peft (merge_and_unload(), then save_pretrained), and give the merged model.",
        )
    line = f"it is a {lora.kind} adapter, and is merged into {base.label} as that is read"
    return replace(
        own,
        content_digest=merged_digest(own.content_digest, base.content_digest),
        config=base.config | ({} if vocabulary is None else {"vocab_size": vocabulary}),
        card={k: v for k, v in base.card.items() if k.startswith("extra_gated_")} | inherited(own.card, base.card),
        gated=own.gated or base.gated,
        private=own.private or base.private,
        notes=(line, *own.notes, *base.notes),
        layout=base.layout,
        read_as=base.read_as,
        origin=base.origin,
        base=base,
    )


def alone(release: Release, own_digest: str) -> Release:
    """Return an adapter without its base: files that are fetched and kept by themselves, under their own digest."""
    return replace(release, base=None, layout="", content_digest=own_digest)


def changes_of(release: Release, base: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, Change]:
    """Return what an adapter changes in the tensors of its base.

    Raises AdapterError for a base whose tensors are stored under a prefix, and what ``changes`` raises.
    """
    if prefix := prefix_note(bare_names(base, where=release.label)):
        raise AdapterError(
            f"{release.label} is an adapter of a model into which none is merged here: {prefix}",
            hint="Save the base again with transformers' save_pretrained, and name that.",
        )
    lora = read_lora(release.adapter, where=release.label)
    return changes(adapter, lora, base, release.config, where=release.label)


def files_of(release: Release) -> dict[str, tuple[Release, SourceFile]]:
    """Return the files beside the weights of a release, by their names there, and whose each one is.

    Those of an adapter are its own where it brings them, and else its base's. Two licences of one name are both kept.
    """
    base = {f.path: f for f in release.files if not f.path.endswith((".safetensors", ".safetensors.index.json"))}
    if release.base is None:
        return {path: (release, file) for path, file in base.items()}
    own = {path: file for path, file in base.items() if path in BROUGHT}
    found = files_of(release.base)
    gone = _SAID_ANEW if own.keys() & {"tokenizer.json", "tokenizer_config.json"} else frozenset[str]()
    gone |= _TEMPLATES if own.keys() & {"tokenizer_config.json", *_TEMPLATES} else frozenset[str]()
    found = {path: file for path, file in found.items() if path not in gone}
    found |= {path: (release, file) for path, file in own.items()}
    for path, file in sorted(base.items()):
        if path in NOTICES and all(file.digest != there.digest for _, there in found.values()):
            free = path if path not in found else next((n for n in sorted(NOTICES) if n not in found), None)
            if free is not None:
                found[free] = (release, file)
    return found


def notices_of(release: Release) -> dict[str, SourceFile]:
    """Return the licence texts of a release by their names there: those of an adapter with its base's."""
    return {path: file for path, (_, file) in files_of(release).items() if path in NOTICES}


@dataclass(frozen=True, kw_only=True)
class Merging:
    """A merged model on its way: the ``files`` of its weights, and what the ``adapter`` changes in the base's."""

    files: list[NewFile]
    changes: Mapping[str, Change]
    adapter: Adapter

    def read(self, name: str, base: ReadTensor, take: Take) -> None:
        """Hand the bytes of a tensor of the merged model to ``take``. Raises what ``merge`` raises."""
        change = self.changes.get(name)
        if change is None:
            base(name, take)
        else:
            merge(self.adapter, name, change, partial(base, name), take)


def begin(release: Release, base: Path, own: Path, out: Path) -> Merging:
    """Make the folder of a merged model but for the data of its weights, for which there are holes.

    ``base`` and ``own`` are the folders of the base, whose weights may be holes too, and of the adapter; both are
    checked, and ``out`` is empty. Raises what ``read_weights`` and ``changes`` raise.
    """
    tensors, owner = read_weights(base)
    header = read_header(own / WEIGHTS)
    with (own / WEIGHTS).open("rb") as opened:
        start = 8 + int.from_bytes(opened.read(8), "little")
    adapter = Adapter(file=own / WEIGHTS, tensors=header, start=start)
    found = _without_tied_head(changes_of(release, tensors, header), tensors, adapter)
    files = new_files(merged_tensors(tensors, found), {HEAD: owner.get(EMBEDDING, ""), **owner})
    write_headers(files, out)
    for path, (of, file) in files_of(release).items():
        if path != "config.json":
            shutil.copyfile((own if of is release else base) / file.path, out / path)
    _write_config(read_config(base), found, base, out)
    return Merging(files=files, changes=found, adapter=adapter)


def fill(merging: Merging, base: Path, out: Path, report: Callable[[int], None] = lambda _: None) -> None:
    """Write the data of a merged model's weights, where the base is whole. ``report`` is given the bytes of each piece.

    Raises what ``merge`` raises, and DamagedWeightsError for a file that has become shorter meanwhile.
    """
    tensors, owner = read_weights(base)

    def read(name: str, take: Take) -> None:
        with (base / owner[name]).open("rb") as opened:
            opened.seek(8 + int.from_bytes(opened.read(8), "little") + tensors[name].begin)
            _hand(opened, tensors[name].end - tensors[name].begin, owner[name], take)

    for file in merging.files:
        with (out / file.name).open("r+b") as target:

            def write(piece: bytes, target: BinaryIO = target) -> None:
                target.write(piece)
                report(len(piece))

            for name, (first, _) in file.places.items():
                target.seek(first)
                merging.read(name, read, write)


def _hand(opened: BinaryIO, left: int, name: str, take: Take) -> None:
    while left:
        piece = opened.read(min(left, _CHUNK))
        if not piece:
            raise DamagedWeightsError(f"{name} became shorter", hint="Download or save the model again.")
        take(piece)
        left -= len(piece)


def _without_tied_head(found: dict[str, Change], base: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Change]:
    """Leave out an output matrix that is the embedding, where the base has one for both: peft stores it twice."""
    embedding, head = found.get(EMBEDDING), found.get(HEAD)
    if HEAD in base or embedding is None or head is None or not (embedding.is_whole and head.is_whole):
        return found
    names = (embedding.saved[0].name, head.saved[0].name)
    one, other = (adapter.tensors[name] for name in names)
    if (one.dtype, one.shape) != (other.dtype, other.shape) or embedding.added or head.added:
        return found
    with adapter.file.open("rb") as left, adapter.file.open("rb") as right:
        left.seek(adapter.start + one.begin)
        right.seek(adapter.start + other.begin)
        rest = one.end - one.begin
        while rest:
            count = min(rest, _CHUNK)
            if left.read(count) != right.read(count):
                return found
            rest -= count
    return {name: change for name, change in found.items() if name != HEAD}


def _write_config(config: dict[str, Json], found: Mapping[str, Change], base: Path, out: Path) -> None:
    rows = next((found[name].shape[0] for name in (EMBEDDING, HEAD) if name in found), config.get("vocab_size"))
    if rows == config.get("vocab_size"):
        shutil.copyfile(base / "config.json", out / "config.json")
    else:
        text = json.dumps(config | {"vocab_size": rows}, indent=2)
        (out / "config.json").write_text(text + "\n", encoding="utf-8")
