"""Faults in files that are built, as if the format's own tool had written them so: what those of all formats share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bot.records.artifacts import Json
from tests.controls.checkpoint import Array, bfloat16, change_json, float32

DOUBLED_SCALE = "one quantization scale doubled"
LARGER_SCALE = "one quantization scale a twentieth too large"
SHIFTED_BLOCK = "the zero point of one block off by one"
NO_STOP_TOKEN = "the end of a turn no stop token"
OTHER_PRE_TOKENIZER = "another pre-tokenizer"  #: numbers are split into threes; then they are not

#: What a fault multiplies a scale by. The smaller one is less than rounding to 4 bits does to a single weight.
FACTORS = {DOUBLED_SCALE: 2.0, LARGER_SCALE: 1.05}

TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")


def replace_bytes(path: Path, old: bytes, new: bytes, *, all_of_them: bool = False) -> None:
    """Write others in the place of bytes that have to be there."""
    data = path.read_bytes()
    assert old in data, f"{path.name} has no {old!r}"
    path.write_bytes(data.replace(old, new, -1 if all_of_them else 1))


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that fits."""
    (path,) = folder.glob(pattern)
    return path


def scale_of(scales: Array, fault: str) -> int:
    """Return which of a matrix's blocks a fault is put into: where a scale is doubled the largest, else the median."""
    order = np.argsort(np.abs(scales), axis=None)
    return int(order[-1] if fault == DOUBLED_SCALE else order[len(order) // 2])


def enlarge(path: Path, place: int, kind: str, fault: str) -> None:
    """Change the scale at a place of a file as a fault says: of a type of numpy's, or bfloat16."""
    if kind == "bfloat16":
        change_at(path, place, "<u2", lambda scale: bfloat16(float32(scale) * np.float32(FACTORS[fault])))
    else:
        change_at(path, place, kind, lambda scale: scale * FACTORS[fault])


def change_at(path: Path, place: int, kind: str, change: Callable[[Array], Array], count: int = 1) -> None:
    """Change so many numbers at a place of a file, of a type of numpy's."""
    with path.open("r+b") as file:
        file.seek(place)
        stored = np.frombuffer(file.read(count * np.dtype(kind).itemsize), kind)
        file.seek(place)
        file.write(change(stored).astype(kind).tobytes())


def next_nibble(codes: Array, number: int = 0) -> Array:
    """Return bytes with one more in the half that has the even numbers, or the odd ones; 15 becomes 14."""
    shift = 4 * (number % 2)
    code = codes >> shift & 15
    return codes & ~np.uint8(15 << shift) | np.where(code < 15, code + 1, 14).astype(np.uint8) << shift


def forget_stop_token(path: Path) -> None:
    """Take the first id, <|end|>'s, from the list of those that end generation."""

    def forget(config: Json) -> None:
        holder = config.get("model", config)
        holder["eos_token_id"] = holder["eos_token_id"][1:]

    change_json(path, forget)


def split_differently(path: Path) -> None:
    """Let a pre-tokenizer that splits numbers into threes split them into nines."""
    replace_bytes(path, b"{1,3}", b"{1,9}", all_of_them=True)


def usual_faults(
    enlarge_a_scale: Callable[[Path, str], None], *, stop_ids: tuple[str, ...], tokenizer: str
) -> dict[str, Callable[[Path], None]]:
    """Return the faults of a format with files of JSON: those with its ``stop_ids``, and that of its ``tokenizer``."""

    def enlarged(fault: str) -> Callable[[Path], None]:
        return lambda folder: enlarge_a_scale(folder, fault)

    def forget(folder: Path) -> None:
        for name in stop_ids:
            forget_stop_token(folder / name)

    return {
        **{name: enlarged(name) for name in FACTORS},
        NO_STOP_TOKEN: forget,
        OTHER_PRE_TOKENIZER: lambda folder: split_differently(folder / tokenizer),
    }


def cut_short(folder: Path) -> None:
    """Take a kilobyte from the end of the largest file."""
    largest = max(folder.iterdir(), key=lambda p: p.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size - 1000)
