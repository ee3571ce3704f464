"""Where safetensors puts each tensor in the file of a model, to the byte, before any is computed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FILE = "model.safetensors"
_BYTES = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I8": 1}
_ORDER = list(_BYTES)  # the types of the larger numbers come first, and of a type the names in their order


@dataclass(frozen=True, kw_only=True)
class Part:
    """A tensor of the file: its type as safetensors name it, and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The header of a file with its length before it, the place of each tensor in it, and its size: all in bytes."""

    header: bytes
    places: Mapping[str, tuple[int, int]]
    size: int


def layout(parts: Sequence[Part]) -> Layout:
    """Return where parts lie in a file that safetensors itself would write of them."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    ordered = sorted(parts, key=lambda part: (_ORDER.index(part.dtype), part.name))
    begins, end = {}, 0
    for part in ordered:
        begins[part.name], end = end, end + part.size
        entries[part.name] = {
            "dtype": part.dtype,
            "shape": list(part.shape),
            "data_offsets": [begins[part.name], end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    places = {p.name: (len(header) + begins[p.name], len(header) + begins[p.name] + p.size) for p in ordered}
    return Layout(header=header, places=places, size=len(header) + end)
