"""The tokenizer's files as llama.cpp's converter takes them, made of those that transformers reads.

The converter goes by what older versions of transformers saved: the name of a class in tokenizer_config.json decides
which of its ways it takes, one of them reads tokenizer.model alone, and of two chat templates it prefers the older.
What a person saves today (tokenizer.json, a class called TokenizersBackend, chat_template.jinja) has none of that. So
it gets a folder of its own, in which each of these says what transformers makes of the source. Nothing else is changed:
a source that has the older files gives the same bytes.
"""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json

_COPIED = ("tokenizer.json", "tokenizer.model", "added_tokens.json", "vocab.json", "merges.txt")
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # whose ids the converter reads out of config.json
_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE = 1, 2, 3, 5, 6  # of ModelProto.SentencePiece.Type


def stage(source: Path, tokenizer: Any, out: Path) -> Path:
    """Make the folder that the converter reads the vocabulary from, and return it: ``out``, which may be there."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in _COPIED:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    config = _read(source / "config.json")
    _write(out / "config.json", _possible_ids(config))
    told = _read(source / "tokenizer_config.json")
    told.pop("chat_template", None)
    if (template := _template(tokenizer)) is not None:
        told["chat_template"] = template
    model = _read(source / "tokenizer.json").get("model", {})
    if model.get("byte_fallback"):
        told |= _of_pieces(told, tokenizer)
        if not _has_pieces(out / "tokenizer.model", model):
            (out / "tokenizer.model").write_bytes(sentencepiece_model(model))
    elif model and config.get("architectures") != ["PhiForCausalLM"]:  # of which the converter asks for no class
        told["tokenizer_class"] = "GPT2Tokenizer"
    _write(out / "tokenizer_config.json", told)
    return out


def _of_pieces(told: dict[str, Json], tokenizer: Any) -> dict[str, Json]:
    """Return what tokenizer_config.json has to say of a tokenizer made of pieces, where it does not say it.

    Newer ones do not say whether a text begins with a token of its own; without a word, llama.cpp puts one there.
    """
    given = told.get("tokenizer_class")
    says: dict[str, Json] = {
        "tokenizer_class": given if isinstance(given, str) and given != "GPT2Tokenizer" else "LlamaTokenizer"
    }
    begins = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in tokenizer.encode("a")[:1]
    if told.get("add_bos_token", True) != begins:
        says |= {"add_bos_token": begins, "add_eos_token": told.get("add_eos_token", False)}
    return says


def _has_pieces(file: Path, model: dict[str, Json]) -> bool:
    """Say whether a tokenizer.model is there, and has the pieces of the tokenizer.json that transformers reads."""
    if not file.exists():
        return False
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor()
    pieces.LoadFromFile(str(file))
    by_id = {i: piece for piece, i in model["vocab"].items()}
    return all(by_id.get(i) == pieces.IdToPiece(i) for i in range(pieces.vocab_size()))


def _template(tokenizer: Any) -> Json:
    """Return the chat template that transformers uses; several as a list of them, each with its name."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return [{"name": name, "template": text} for name, text in template.items()]
    return template


def _possible_ids(config: dict[str, Json]) -> dict[str, Json]:
    """Return a config without ids that have no row; -1 is written for "none", and the converter fails on it."""
    rows = config.get("vocab_size")
    limit = rows if isinstance(rows, int) else 0
    keys = {f"{name}_token_id" for name in _SPECIAL}
    return {k: v for k, v in config.items() if k not in keys or not isinstance(v, int) or 0 <= v < limit}


def sentencepiece_model(model: dict[str, Json]) -> bytes:
    """Return the tokenizer.model of which a tokenizer.json's ``model`` was made: a BPE of pieces and of bytes.

    Of two pieces that can be joined SentencePiece takes the one with the higher score first, and tokenizer.json the one
    that stands first among its merges. So scores fall in that order. They are those of the model itself, which go down
    by one from piece to piece, but for pieces that were moved among the merges, such as runs of spaces.
    """
    vocabulary: dict[str, int] = model["vocab"]
    by_id = {i: piece for piece, i in vocabulary.items()}
    scores = _scores(model, vocabulary, by_id)
    out = b""
    for i in range(max(by_id) + 1):
        piece = by_id.get(i)
        kind = _kind(piece, model.get("unk_token"))
        out += _field(1, _piece(piece if piece is not None else f"[PAD{i}]", scores.get(i, 0.0), kind))
    # trainer_spec: model_type BPE, byte_fallback; normalizer_spec: as it is, with a space before the first word
    return out + _field(2, _number(3, 2) + _number(35, 1)) + _field(3, _field(1, b"identity") + _number(4, 0))


def _scores(model: dict[str, Json], vocabulary: dict[str, int], by_id: dict[int, str]) -> dict[int, float]:
    normal = [i for i, piece in by_id.items() if _kind(piece, model.get("unk_token")) == _NORMAL]
    first = min(normal, default=0)
    scores = {i: float(first - i) for i in normal}
    last = 1.0
    joined: set[int] = set()
    for left, right in _merges(model):
        i = vocabulary.get(left + right)
        if i is None or i in joined:
            continue
        joined.add(i)
        last = min(scores.get(i, 0.0), last - 1.0)
        scores[i] = last
    return scores


def _merges(model: dict[str, Json]) -> Iterator[tuple[str, str]]:
    for merge in model.get("merges", ()):
        left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
        yield left, right


def _kind(piece: str | None, unknown: str | None) -> int:
    if piece is None:
        return _UNUSED
    if piece == unknown:
        return _UNKNOWN
    if piece in ("<s>", "</s>"):
        return _CONTROL
    return _BYTE if len(piece) == len("<0x00>") and piece.startswith("<0x") and piece.endswith(">") else _NORMAL


def _piece(text: str, score: float, kind: int) -> bytes:
    return (
        _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + (_number(3, kind) if kind != _NORMAL else b"")
    )


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a Protocol Buffers message that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """Return a field of a Protocol Buffers message that holds a whole number."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read(path: Path) -> dict[str, Json]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
