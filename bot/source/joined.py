"""The weights of a model as its class has them in transformers, and those of one in another class as Phi-3 has them.

Of a copy (see copies.py) q, k and v are one matrix, and so are gate and up: the rows of the joined matrix are those of
its parts, one part after the other, so its bytes are theirs, one part's after the other's. Of a text part (see
text_parts.py) each tensor is one that is stored, under Phi-3's name for it, and the others are left out. A prefix of
all names (see prefixes.py) is left off. Nothing is computed, and nothing is held. The joined files are safetensors of
their own, with a header written here. Their data is copied from the files of the parts, or comes tensor by tensor where
these stream.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bot.errors import DamagedWeightsError, OtherWeightsError
from bot.source.new_files import NewFile, new_file
from bot.source.prefixes import bare_names
from bot.source.safetensors_files import Tensor
from bot.source.text_parts import TEXT_PARTS, text_tensors

#: What Phi-3 has as one matrix, and the parts that a copy has, in the order of their rows.
JOINED = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}
_PART = re.compile(r"(.*\.layers\.\d+\.)(self_attn\.[qkv]_proj|mlp\.(?:gate|up)_proj)(\.weight)")
_WHOLE = {part: whole for whole, parts in JOINED.items() for part in parts}
_CHUNK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class JoinedFile(NewFile):
    """A file to write, and the ``parts`` that each of its tensors is joined of."""

    parts: dict[str, tuple[str, ...]]


def joined(tensors: Mapping[str, Tensor], layout: str, *, where: str) -> dict[str, tuple[str, ...]]:
    """Return the names of a model's tensors as they are read, each with the stored names of its parts, in their order.

    ``layout`` is the class that it was saved as where it is read as Phi-3, else "". A tensor that stays as it is has
    itself as its one part. A joined one has the place of its first part. The tensors have passed ``check_tensors``.
    Raises OtherWeightsError where parts are stored in several types, and what ``bare_names`` and ``text_tensors``
    raise.
    """
    names = bare_names(tensors, where=where)
    if layout in TEXT_PARTS:
        return {name: (names[own],) for name, own in text_tensors(names, layout, where=where).items()}
    found: dict[str, tuple[str, ...]] = {}
    for name, stored in names.items():
        part = _PART.fullmatch(name) if layout else None
        if part is None:
            found[name] = (stored,)
            continue
        layer, kind, end = part.groups()
        whole = _WHOLE[kind]
        parts = tuple(layer + p + end for p in JOINED[whole])
        types = {p: tensors[names[p]].dtype for p in parts}
        if len(set(types.values())) > 1:
            said = ", ".join(f"{p.removeprefix(layer)} as {dtype}" for p, dtype in types.items())
            raise OtherWeightsError(
                f"{where} stores {said} in {layer.removesuffix('.')}, and they are read as one matrix",
                hint="Save the model in one type.",
            )
        found.setdefault(layer + whole + end, tuple(names[p] for p in parts))
    return found


def joined_tensors(tensors: Mapping[str, Tensor], layout: str, *, where: str) -> dict[str, Tensor]:
    """Return a model's tensors as they are read, each with its bytes counted from 0. Raises what ``joined`` raises."""
    found: dict[str, Tensor] = {}
    for name, parts in joined(tensors, layout, where=where).items():
        first = tensors[parts[0]]
        size = sum(tensors[p].end - tensors[p].begin for p in parts)
        shape = (sum(tensors[p].shape[0] for p in parts), *first.shape[1:]) if len(parts) > 1 else first.shape
        found[name] = Tensor(dtype=first.dtype, shape=shape, begin=0, end=size)
    return found


def joined_files(
    tensors: Mapping[str, Tensor], owner: Mapping[str, str], layout: str, *, where: str
) -> list[JoinedFile]:
    """Return the files that hold a model's tensors as they are read: each is in the file that its first part was in.

    ``owner`` names the file of each of the ``tensors``. Raises what ``joined`` raises.
    """
    parts, whole = joined(tensors, layout, where=where), joined_tensors(tensors, layout, where=where)
    files: dict[str, list[str]] = {}
    for name in parts:
        files.setdefault(owner[parts[name][0]], []).append(name)
    return [_file(file, {n: whole[n] for n in names}, parts) for file, names in sorted(files.items())]


def _file(name: str, tensors: Mapping[str, Tensor], parts: Mapping[str, tuple[str, ...]]) -> JoinedFile:
    new = new_file(name, tensors)
    return JoinedFile(
        name=name, header=new.header, size=new.size, places=new.places, parts={n: parts[n] for n in tensors}
    )


def copy_data(
    files: list[JoinedFile], folder: Path, tensors: Mapping[str, Tensor], owner: Mapping[str, str], out: Path
) -> None:
    """Fill the holes of joined files in ``out`` from the ``folder`` that holds the parts.

    Raises DamagedWeightsError for a file that has become shorter meanwhile.
    """
    for file in files:
        with (out / file.name).open("r+b") as target:
            for name, (first, _) in file.places.items():
                target.seek(first)
                for part in file.parts[name]:
                    _copy(folder / owner[part], tensors[part], target)


def _copy(path: Path, tensor: Tensor, target: BinaryIO) -> None:
    with path.open("rb") as opened:
        opened.seek(8 + int.from_bytes(opened.read(8), "little") + tensor.begin)
        left = tensor.end - tensor.begin
        while left:
            piece = opened.read(min(left, _CHUNK))
            if not piece:
                raise DamagedWeightsError(f"{path.name} became shorter", hint="Download or save the model again.")
            target.write(piece)
            left -= len(piece)
