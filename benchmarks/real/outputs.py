"""Digests of the files of a build, to compare them after they are removed."""

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 22
_WEIGHTS = (".gguf: tensors", ".safetensors", ".onnx", ".onnx.data", "openvino_model.bin")
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of GGUF's types of values
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file by its name. A GGUF file is called model.gguf, and its tensors count apart.

    They are the same for more reasons than the file is: the header holds names, which follow from folders.
    """
    found = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(file.relative_to(folder))
        with file.open("rb") as opened:
            if file.suffix == ".gguf":
                name = "model.gguf"
                opened.seek(_tensors_begin(opened))
                found[f"{name}: tensors"] = _digest(opened)
                opened.seek(0)
            found[name] = _digest(opened)
    return found


def compared(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[bool, list[str]]:
    """Say whether all files with weights are the same, and name the others, of those that both have, that are not."""
    common = ours.keys() & theirs.keys()
    weights = [name for name in ours.keys() | theirs.keys() if name.endswith(_WEIGHTS)]
    different = sorted(name for name in common if ours[name] != theirs[name])
    same = bool(weights) and all(ours.get(name) == theirs.get(name) for name in weights)
    return same, [name for name in different if name not in weights]


def _digest(file: BinaryIO) -> str:
    total = hashlib.sha256()
    while block := file.read(_BLOCK):
        total.update(block)
    return total.hexdigest()


def _tensors_begin(file: BinaryIO) -> int:
    """Return where the tensors of a GGUF file begin."""

    def number(kind: str) -> int:
        return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])

    def skip(kind: int) -> None:
        if kind == _STRING:
            file.seek(number("Q"), 1)
        elif kind == _ARRAY:
            inner, count = number("I"), number("Q")
            if inner in (_STRING, _ARRAY):
                for _ in range(count):
                    skip(inner)
            else:
                file.seek(count * _SCALARS[inner], 1)
        else:
            file.seek(_SCALARS[kind], 1)

    if file.read(4) != b"GGUF":
        raise ValueError("it is not a GGUF file")
    number("I")  # its version
    tensors, values = number("Q"), number("Q")
    for _ in range(values):
        skip(_STRING)
        skip(number("I"))
    for _ in range(tensors):
        skip(_STRING)
        file.seek(8 * number("I") + 4 + 8, 1)  # shape, type, place
    return -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
