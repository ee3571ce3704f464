"""Bounds on the parts of a tokenizer, checked before any library reads them.

A file of few megabytes can cost gigabytes: one token of all of it, thousands of steps that each copy the text, an
expression that repeats a repetition. Every bound is many times what the largest tokenizer of a Phi has (200,064 tokens
of up to 128 characters, 16 MB). Each check raises ValueError, saying the key, what it has, and the bound.
"""

import math
import re
from collections.abc import Iterator

from bot.records.artifacts import Json

FILE_BYTES = 50_000_000
LISTS = 1_000_000  #: lists and objects in a file: what JSON costs in memory is a matter of these and of its values
VALUES = 3_000_000
TOKEN = 1_000  #: characters
TOKENS = 500_000
MERGES = 1_000_000
ADDED = 50_000  #: tokens beside the vocabulary
ADDED_CHARACTERS = 1_000_000  #: of them together: runtimes build an automaton with a state for each
TEMPLATE = 200_000  #: characters of a chat template
TEMPLATES = 20
STEPS = 100  #: of a normalizer, pre-tokenizer, post-processor or decoder
GROWTH = 1_000  #: times that steps can make a text longer
EXPRESSION = 5_000  #: characters of a regular expression
NESTING = 50  #: groups in groups of one
REPETITION = 100_000  #: times that counted repetitions of one can repeat together
PADDING = 1_000_000  #: tokens
_TEXT = 10_000  # characters of any other text
_SHOWN = 80  # characters of a key
_SMALL = 10_000  # values in a file that is not a vocabulary
_SETTINGS = 100  # parts of a SentencePiece model beside its pieces: four
_CHARSMAP = 2_000_000  # SentencePiece's table of characters, in base64: 320 kB

_PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_json(data: bytes) -> None:
    """Hold a JSON file to its size before it is parsed. Brackets and commas in its texts count as well."""
    _most("", "bytes", len(data), FILE_BYTES)
    _most("", "lists and objects", data.count(b"[") + data.count(b"{"), LISTS)
    _most("", "values", data.count(b",") + data.count(b":"), 2 * VALUES)


def check_tokenizer_json(value: dict[str, Json]) -> None:
    """Check the parts of a tokenizer.json."""
    rest = dict(value)
    model = rest.pop("model", None)
    if isinstance(model, dict):
        parts = dict(model)
        _check_tokens("model.vocab", parts.pop("vocab", None), TOKENS)
        _check_merges(parts.pop("merges", None))
        _check_values(parts, "model", longest=TOKEN)
    _check_added("added_tokens", rest.pop("added_tokens", None))
    for part in _PIPELINE:
        _check_steps(part, rest.pop(part, None))
    _check_growth({part: value.get(part) for part in ("normalizer", "pre_tokenizer")})
    _check_padding(rest.get("padding"))
    _check_values(rest, "", longest=_TEXT)


def check_tokenizer_config(value: dict[str, Json]) -> None:
    """Check the parts of a tokenizer_config.json, or of a special_tokens_map.json."""
    rest = dict(value)
    check_template("chat_template", rest.pop("chat_template", None))
    _check_added("added_tokens_decoder", rest.pop("added_tokens_decoder", None))
    tokens = [k for k in rest if k.endswith(("_token", "_tokens"))]
    for key in tokens:
        _check_added(key, rest.pop(key))
    _check_values(rest, "", longest=_TEXT)


def check_vocabulary(value: dict[str, Json]) -> None:
    """Check a vocab.json."""
    _check_tokens("the vocabulary", value, TOKENS)


def check_added_tokens(value: dict[str, Json]) -> None:
    """Check an added_tokens.json."""
    _check_added("the list of tokens", value)


def check_template(key: str, value: Json) -> None:
    """Check a chat template: a text, or several with names."""
    many = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    _most(key, "templates", len(many), TEMPLATES)
    for text in _texts(value):
        _most(key, "characters", len(text), TEMPLATE)


def check_merges_txt(data: bytes) -> None:
    """Check a merges.txt: a line for each merge."""
    _most("", "bytes", len(data), FILE_BYTES)
    _most("", "lines", data.count(b"\n"), MERGES)
    longest = max(map(len, data.split(b"\n")))
    _most("a line", "bytes", longest, 8 * TOKEN)


def check_piece(count: int, piece: bytes) -> None:
    """Check a piece of a SentencePiece model, the ``count``-th: its text, its score and what kind it is."""
    _most("", "pieces", count, TOKENS)
    _most(f"piece {count}", "bytes", len(piece), 4 * TOKEN)


def check_setting(count: int, value: bytes) -> None:
    """Check a part of a SentencePiece model that is not a piece, the ``count``-th."""
    _most("", "parts beside its pieces", count, _SETTINGS)
    _most("a part beside its pieces", "bytes", len(value), _CHARSMAP)


def check_other(value: dict[str, Json]) -> None:
    """Check a file that has no long parts, as generation_config.json."""
    _check_values(value, "", longest=_TEXT)


def _check_values(value: Json, key: str, *, longest: int) -> None:
    """Check what has no bounds of its own: few values, and no long text."""
    for count, (path, inner) in enumerate(_walk(value, key), start=1):
        if count > _SMALL:
            raise ValueError(f"has more than {_SMALL} values{f' in {key}' if key else ''}")
        if isinstance(inner, str):
            _most(path, "characters", len(inner), longest)


def _check_tokens(key: str, value: Json, most: int) -> None:
    """Check a vocabulary: ids by tokens, or a list of tokens, each alone or with a score."""
    if not isinstance(value, dict | list):
        return
    _most(key, "tokens", len(value), most)
    for entry in value:
        for text in _texts(entry):
            _most(f"{key}: {_short(text)}", "characters", len(text), TOKEN)
    if isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
        raise ValueError(f"has a list or an object for an id in {key}")


def _check_merges(value: Json) -> None:
    if not isinstance(value, list):
        return
    _most("model.merges", "merges", len(value), MERGES)
    for merge in value:
        for text in _texts(merge):
            _most(f"model.merges: {_short(text)}", "characters", len(text), 2 * TOKEN + 1)


def _check_added(key: str, value: Json) -> None:
    """Check tokens beside the vocabulary, in any of the shapes that libraries write them in."""
    if isinstance(value, dict | list):
        _most(key, "tokens", len(value), ADDED)
    together = 0
    for text in _texts(value):
        _most(key if isinstance(value, str) else f"{key}: {_short(text)}", "characters", len(text), TOKEN)
        together += len(text)
    _most(key, "characters", together, ADDED_CHARACTERS)


def _check_steps(part: str, value: Json) -> None:
    steps = 0
    for count, (path, inner) in enumerate(_walk(value, part), start=1):
        if count > _SMALL:
            raise ValueError(f"has more than {_SMALL} values in {part}")
        if isinstance(inner, dict) and "type" in inner:
            steps += 1
        if isinstance(inner, str):
            _most(path, "characters", len(inner), _CHARSMAP if path.endswith(".precompiled_charsmap") else _TEXT)
            if path.endswith(".Regex"):
                _check_expression(path, inner)
    _most(part, "steps", steps, STEPS)


def _check_expression(key: str, text: str) -> None:
    _most(key, "characters", len(text), EXPRESSION)
    bare = re.sub(r"\\.", "", text)
    depth = deepest = 0
    for character in bare:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    _most(key, "nested groups", deepest, NESTING)
    counts = [
        int(most or least) for least, most in re.findall(r"\{(\d{1,18})?(?:,(\d{1,18})?)?\}", bare) if most or least
    ]
    _most(key, "repetitions", math.prod(max(c, 1) for c in counts), REPETITION)


def _check_growth(parts: dict[str, Json]) -> None:
    """Hold the steps that make a text longer to what they do together: thirty that double it make a gigabyte of one.

    A replacement counts if its pattern may stand in what another one, or itself, has put in.
    """
    steps = [v for part, value in parts.items() for _, v in _walk(value, part) if isinstance(v, dict)]
    written = "".join(v["content"] for v in steps if isinstance(v.get("content"), str))
    growth = 1.0
    for step in steps:
        content, pattern = step.get("content"), step.get("pattern")
        if step.get("type") == "ByteLevel":
            growth *= 2  # each byte of a character that is none of ASCII's becomes such a character
        elif step.get("type") == "Replace" and isinstance(content, str) and isinstance(pattern, dict):
            found = pattern.get("String")
            if not isinstance(found, str):
                growth *= max(len(content), 1)
            elif found in written:
                growth *= max(len(content) / max(len(found), 1), 1)
    if growth > GROWTH:
        raise ValueError(f"has a normalizer and a pre_tokenizer that make a text more than {GROWTH} times longer")


def _check_padding(value: Json) -> None:
    for path, inner in _walk(value, "padding"):
        if isinstance(inner, int | float):
            _most(path, "for a number", inner, PADDING)


def _walk(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Yield a value and all that is in it, each with its keys: ``post_processor.processors.0.type``."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, v in inner:
        if isinstance(key, str):
            _most(path or "a key", "characters", len(key), TOKEN)
        yield from _walk(v, f"{path}.{key}" if path else str(key))


def _texts(value: Json) -> Iterator[str]:
    """Yield all texts in a value, keys as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _short(text: str) -> str:
    return ascii(text[:30])


def _most(key: str, what: str, count: float, most: int) -> None:
    if count > most:
        raise ValueError(f"has {count} {what}{f' in {key[:_SHOWN]}' if key else ''}, more than {most}")
