"""The header of a GGUF file that is on the Hub: read in pieces, bounded, and without its weights.

Every number in it is a stranger's: nothing is allocated, repeated or fetched by one before it was held to a bound.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bot.formats.inside import HeaderError, Inside, ReadPart, UnknownHeaderError

_VERSIONS = (2, 3)
_LAST_VERSION = 1000  # that another tool's file may be of
_PIECE = 2_000_000  # bytes fetched at a time: one or a few requests for a header
_HEADER_BYTES = 100_000_000  # a vocabulary of 200,064 with its merges takes 9 MB
_PAIRS, _ITEMS, _TENSORS = 10_000, 2_000_000, 100_000
_TEXT_BYTES = 2_000_000
_NAME_BYTES = 200
_FACTORS = 4096  # of LongRoPE: half of the dimensions of a head
_ALIGNMENT, _MOST_ALIGNMENT = 32, 1 << 20
_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY, _F32 = 8, 9, 0
_STOPS = ("eos", "eot", "eom")
#: What llama.cpp ends an answer at by its text, whatever the file names (llama_vocab in its src/llama-vocab.cpp).
_STOPPING = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "< EOT >"}
)
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_HUB = "https://huggingface.co/"


def inside(read: ReadPart, size: int) -> Inside:
    """Return what a file of ``size`` bytes says of its model.

    Raises HeaderError, and UnknownHeaderError for what may be right: another version, or not the header of a model.
    """
    source = _Source(read=read, size=size)
    try:
        metadata, places = _header(source)
        _check_kind(metadata)
        factors = {
            side: _floats(source, places[name])
            for side in ("short", "long")
            if (name := f"rope_factors_{side}.weight") in places
        }
    except (struct.error, UnicodeDecodeError) as error:
        raise HeaderError("its header is cut short, or is not text where it has to be") from error
    return _inside(metadata, factors)


@dataclass(kw_only=True)
class _Source:
    """The file from its beginning, fetched as far as it is read."""

    read: ReadPart
    size: int
    at: int = 0
    items: int = 0  # of all lists so far
    held: bytearray = field(default_factory=bytearray)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > min(self.size, _HEADER_BYTES):
            raise HeaderError(f"its header goes past {min(self.size, _HEADER_BYTES)} bytes")
        while len(self.held) < end:
            begin = len(self.held)
            piece = self.read(begin, min(self.size, max(end, begin + _PIECE)))
            if not piece:
                raise HeaderError("it ends within its header")
            self.held += piece
        found = bytes(self.held[self.at : end])
        self.at = end
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, most: int, what: str) -> int:
        found: int = self.number("<Q")
        if found > most:
            raise HeaderError(f"it says that it has {found} {what}, more than {most}")
        return found

    def text(self, most: int = _TEXT_BYTES) -> str:
        return self.take(self.count(most, "bytes of a text")).decode("utf-8")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A tensor of 32-bit floats: where it begins in the file, in bytes, and how many numbers it has."""

    begin: int
    count: int


def _header(source: _Source) -> tuple[dict[str, Any], dict[str, _Place]]:
    """Return the metadata, and the places of the tensors of plain floats."""
    if source.take(4) != b"GGUF":
        raise HeaderError("it does not begin with GGUF")
    _check_version(source.take(4))
    tensors, pairs = source.count(_TENSORS, "tensors"), source.count(_PAIRS, "keys")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = source.text(_NAME_BYTES)
        if key in metadata:
            raise HeaderError(f"it has the key {key!a} twice")
        metadata[key] = _value(source, source.number("<I"))
    listed = [_tensor(source) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT:
        raise HeaderError("its alignment is not one")
    begin = -(-source.at // alignment) * alignment
    return metadata, {n: _Place(begin=begin + offset, count=count) for n, kind, count, offset in listed if kind == _F32}


def _check_version(data: bytes) -> None:
    version = int.from_bytes(data, "little")
    if version in _VERSIONS:
        return
    if 0 < int.from_bytes(data, "big") < _LAST_VERSION:
        raise UnknownHeaderError("its numbers are big-endian, which is not read here")
    kind = UnknownHeaderError if 0 < version < _LAST_VERSION else HeaderError
    raise kind(f"it is of version {version}, which is not read here")


def _check_kind(metadata: dict[str, Any]) -> None:
    """Raise UnknownHeaderError for what is not the header of a model: an adapter, a projector, a later part."""
    kind = metadata.get("general.type", "model")
    if not isinstance(kind, str):
        raise HeaderError("its type is not a text")
    if kind != "model":
        raise UnknownHeaderError(f"it is of the type {kind[:40]!a}, not a model")
    number = metadata.get("split.no", 0)
    if type(number) is int and number > 0:
        raise UnknownHeaderError(f"it is part {number + 1} of a model, and the first part has its header")


def _tensor(source: _Source) -> tuple[str, int, int, int]:
    """Return name, kind, count of numbers, and offset of a tensor."""
    name = source.text(_NAME_BYTES)
    dimensions = source.number("<I")
    if dimensions > 4:
        raise HeaderError(f"its tensor {name!a} has {dimensions} dimensions")
    count = math.prod(source.number("<Q") for _ in range(dimensions))
    return name, source.number("<I"), count, source.number("<Q")


def _value(source: _Source, kind: int) -> Any:
    if kind == _STRING:
        return source.text()
    if kind in _SCALARS:
        return source.number(_SCALARS[kind])
    if kind != _ARRAY:
        raise UnknownHeaderError(f"it has a value of an unknown kind, {kind}")
    item, count = source.number("<I"), source.count(_ITEMS - source.items, "more items of lists")
    source.items += count
    if item == _STRING:
        return [source.text() for _ in range(count)]
    if item not in _SCALARS:
        raise UnknownHeaderError(f"it has a list of an unknown kind, {item}")
    form = _SCALARS[item]
    return list(struct.unpack(f"<{count}{form[-1]}", source.take(count * struct.calcsize(form))))


def _floats(source: _Source, place: _Place) -> tuple[float, ...]:
    size = 4 * place.count
    if place.count > _FACTORS or place.begin + size > source.size:
        raise HeaderError("its rope factors are not where a file has them, or too many")
    data = source.read(place.begin, place.begin + size)
    return struct.unpack(f"<{place.count}f", data)


def _inside(metadata: dict[str, Any], factors: dict[str, tuple[float, ...]]) -> Inside:
    listed = _texts(metadata.get("tokenizer.ggml.tokens"))
    ids = {kind: metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in (*_STOPS, *_SPECIAL.values())}
    named = frozenset(i for kind in _STOPS if type(i := ids[kind]) is int)
    by_text = {i for i, token in enumerate(listed or ()) if token in _STOPPING}
    architecture = metadata.get("general.architecture")
    base = metadata.get(f"{architecture}.rope.freq_base")
    parts = metadata.get("split.count", 1)
    return Inside(
        name=_text(metadata.get("general.name")),
        license=_text(metadata.get("general.license")),
        bases=tuple(_bases(metadata)),
        template=_text(metadata.get("tokenizer.chat_template")),
        special_tokens={
            name: listed[i]
            for name, kind in _SPECIAL.items()
            if listed and type(i := ids[kind]) is int and 0 <= i < len(listed)
        },
        tokens=listed,
        stops=named | by_text,
        named=named,
        base=base if isinstance(base, float) else None,
        factors=factors,
        parts=parts if type(parts) is int else 1,
    )


def _bases(metadata: dict[str, Any]) -> Iterable[str]:
    count = metadata.get("general.base_model.count", 0)
    for number in range(min(count, 10) if type(count) is int else 0):
        address = metadata.get(f"general.base_model.{number}.repo_url")
        if isinstance(address, str) and address.startswith(_HUB):
            yield address.removeprefix(_HUB)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None
