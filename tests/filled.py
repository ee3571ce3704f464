"""Strategies for values of any type that bot/records/base.py reads: records, and tables of phi-bot.toml."""

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from bot.config import places, tables
from bot.records.artifacts import Commit, FileDigest, Folder, RelativePath, VariantName
from bot.records.base import Json, Record, Sha256

R = TypeVar("R", bound=Record)
DIGEST = "0123456789abcdef" * 4

texts = st.text("aZ0/._- \n\"'\\é😀\x00", max_size=6)
json_values: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=4,
)
WRITTEN_AS: dict[Any, st.SearchStrategy[Any]] = {
    Sha256: st.sampled_from([DIGEST, "0" * 64]),
    Commit: st.sampled_from([DIGEST[:40], "0" * 40]),
    FileDigest: st.sampled_from(["sha256:" + DIGEST, "git:" + DIGEST[:40]]),
    RelativePath: st.sampled_from(["a", "é /..x/c.d", "ab:/c"]),
    Folder: st.sampled_from(["", "cpu_and_mobile/cpu-int4"]),
    VariantName: st.sampled_from(["gguf/q4_k_m", "onnx/cpu-int4"]),
    # what a function checks too
    tables.Endpoint: st.sampled_from(["https://h.co", "http://localhost:8/x"]),
    tables.VariantNames: st.sampled_from(["default", "gguf", "mlx/*", "gguf/q4_k_m"]),
    tables.Folder: st.sampled_from(["here", "/there/it is"]).map(Path),
    places.KeyFile: st.sampled_from(["key.pem", "/there/the key.pem"]).map(Path),
    places.RepoTemplate: st.sampled_from(["{name}{suffix}", "{owner}-{name}{suffix}"]),
}
_TEXTS = [
    "",
    "a",
    "A_b.c-d",
    "Phi-*",
    "a" * 40,
    "me/you.x",
    "https://h.co/é",
    "é\"'\\*\x7f\x01😀",
    "say 'é' \t && \"done\"",
]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return what a field of this type may hold."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in WRITTEN_AS:
        return WRITTEN_AS[hint]
    if hint is Any:
        return json_values
    if origin is typing.Annotated:
        rules: dict[str, Any] = {}
        for rule in args[1:]:
            rules |= rule.schema
        return _ruled(args[0], rules)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(texts if args[0] is str else values(args[0]), values(args[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        return filled(typing.cast("type[Record]", hint))
    return {
        str: texts,
        int: st.integers(),
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        type(None): st.none(),
    }[hint]


def _ruled(hint: Any, rules: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values of a type that are inside the rules of their schema."""
    if "pattern" in rules:
        return st.sampled_from([text for text in _TEXTS if re.fullmatch(rules["pattern"], text)])
    if "enum" in rules:
        return st.sampled_from(rules["enum"])
    if "const" in rules:
        return st.just(rules["const"])
    if "minItems" in rules:
        return st.lists(values(typing.get_args(hint)[0]), min_size=1, max_size=2).map(tuple)
    above = rules.get("exclusiveMinimum")
    low, high = rules.get("minimum", above), rules.get("maximum")
    if hint is int:
        return st.integers(low, high)
    return st.floats(low, high, exclude_min=above is not None, allow_nan=False, allow_infinity=False)


def filled(cls: type[R]) -> st.SearchStrategy[R]:
    """Return a strategy for a record of a class. One that may hold another of its class holds one that does not."""
    hints = typing.get_type_hints(cls, include_extras=True)
    own = {name for name, hint in hints.items() if cls in typing.get_args(hint)}
    others = {name: values(hint) for name, hint in hints.items() if name not in own}
    inner = st.one_of(st.none(), st.builds(cls, **others)) if own else st.none()
    return st.builds(cls, **others, **dict.fromkeys(own, inner))
