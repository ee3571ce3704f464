"""The tokenizer of a source model: that its files are there and whole."""

from collections.abc import Iterator
from pathlib import Path

from bot.errors import DamagedTokenizerError
from bot.records import CONTENT_FILES
from bot.source.config import is_lfs_pointer, read_object

_BYTES = 100_000_000  # the largest tokenizer.json of a Phi has 16 MB


def check_tokenizer(folder: Path) -> None:
    """Check every tokenizer file of a folder. Raises DamagedTokenizerError naming the file and what is wrong."""
    present = {name for name in CONTENT_FILES if (folder / name).is_file()}
    if not present & {"tokenizer.json", "tokenizer.model"}:
        raise DamagedTokenizerError(
            f"{folder} has neither tokenizer.json nor tokenizer.model", hint="Download or save the tokenizer as well."
        )
    for name in sorted(present - {"config.json"}):
        try:
            if name == "tokenizer.json":
                _check_fast(folder / name)
            elif name == "tokenizer.model":
                _check_sentencepiece(folder / name)
            elif name.endswith(".json"):
                read_object(folder / name, limit=_BYTES)
        except ValueError as error:
            raise DamagedTokenizerError(f"{name} {error}", hint="Download or save the tokenizer again.") from error


def _check_fast(path: Path) -> None:
    model = read_object(path, limit=_BYTES).get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list) or not model["vocab"]:
        raise ValueError("has no model with a vocabulary")


def _check_sentencepiece(path: Path) -> None:
    if path.stat().st_size > _BYTES:
        raise ValueError(f"has more than {_BYTES} bytes")
    data = path.read_bytes()
    if is_lfs_pointer(data):
        raise ValueError("is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)")
    # ModelProto of sentencepiece_model.proto: field 1 is a piece, a message whose own field 1 is its text.
    pieces = [value for number, value in _fields(data) if number == 1]
    texts = sum(any(number == 1 for number, _ in _fields(piece)) for piece in pieces)
    if not pieces or texts != len(pieces):
        raise ValueError("is no SentencePiece model")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field of a Protocol Buffers message; content is b"" for numbers."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        content = b""
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(message, at)
                content = message[at : at + length]
                at += length
            case 5:
                at += 4
            case _:
                raise ValueError("is no SentencePiece model")
        if at > len(message):
            raise ValueError("is truncated")
        yield key >> 3, content


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("is truncated")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("is no SentencePiece model")
