"""The tokenizer of a source model: that its files are there and whole."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bot.errors import ConfigValueError, DamagedTokenizerError
from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.source import bounds
from bot.source.strict import is_lfs_pointer, parse_object

_CHECKS: dict[str, Callable[[dict[str, Json]], None]] = {
    "tokenizer.json": bounds.check_tokenizer_json,
    "tokenizer_config.json": bounds.check_tokenizer_config,
    "special_tokens_map.json": bounds.check_tokenizer_config,
    "chat_template.json": bounds.check_tokenizer_config,
    "added_tokens.json": bounds.check_added_tokens,
    "vocab.json": bounds.check_vocabulary,
    "generation_config.json": bounds.check_other,
}


def check_tokenizer(folder: Path) -> None:
    """Check every tokenizer file of a folder, and how it generates.

    Raises DamagedTokenizerError or, for generation_config.json, ConfigValueError, naming the file and what is wrong.
    """
    present = {name for name in CONTENT_FILES if (folder / name).is_file()}
    if not present & {"tokenizer.json", "tokenizer.model"}:
        raise DamagedTokenizerError(
            f"{folder} has neither tokenizer.json nor tokenizer.model", hint="Download or save the tokenizer as well."
        )
    for name in sorted(present - {"config.json"}):
        try:
            _check(folder / name)
        except ValueError as error:
            if name == "generation_config.json":
                raise ConfigValueError(f"{name} {error}", hint="Restore it from the original model.") from error
            raise damaged_tokenizer(name, error) from error


def damaged_tokenizer(name: str, what: object) -> DamagedTokenizerError:
    """Return the error for a file of a tokenizer that is not whole."""
    return DamagedTokenizerError(f"{name} {what}", hint="Download or save the tokenizer again.")


def _check(path: Path) -> None:
    size = path.stat().st_size
    if size > bounds.FILE_BYTES:
        raise ValueError(f"has {size} bytes, more than {bounds.FILE_BYTES}")
    data = path.read_bytes()
    if path.suffix == ".json":
        bounds.check_json(data)
        value = parse_object(data)
        _CHECKS[path.name](value)
        if path.name == "tokenizer.json":
            _check_fast(value)
    elif path.name == "tokenizer.model":
        _check_sentencepiece(data)
    elif path.name == "merges.txt":
        bounds.check_merges_txt(data)
    else:
        bounds.check_template("the template", _text(data))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error


def _check_fast(value: dict[str, Json]) -> None:
    model = value.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list) or not model["vocab"]:
        raise ValueError("has no model with a vocabulary")


def _check_sentencepiece(data: bytes) -> None:
    if is_lfs_pointer(data):
        raise ValueError("is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)")
    # ModelProto of sentencepiece_model.proto: field 1 is a piece, a message whose own field 1 is its text.
    # Others are how it was trained, and how it reads a text: with a table of characters.
    pieces = settings = 0
    for number, value in _fields(data):
        if number != 1:
            settings += 1
            bounds.check_setting(settings, value)
            continue
        pieces += 1
        bounds.check_piece(pieces, value)
        if all(inner != 1 for inner, _ in _fields(value)):
            raise ValueError("is not a SentencePiece model")
    if not pieces:
        raise ValueError("is not a SentencePiece model")


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
                raise ValueError("is not a SentencePiece model")
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
    raise ValueError("is not a SentencePiece model")
