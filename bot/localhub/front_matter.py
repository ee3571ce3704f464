"""The YAML head of a card: read without trusting it, and checked as the Hub checks it."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from bot.records.licenses import LICENSES

MAX_HEAD = 256 * 1024  # bytes
_FENCE = re.compile(r"\A\ufeff?(?:[ \t]*\r?\n)*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_REPO_ID = re.compile(r"(?:[\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_RELATIONS = ("adapter", "finetune", "merge", "quantized")


class HeadError(ValueError):
    """A head that is not a YAML mapping; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Errors and warnings about a head."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's view of plain values, as the Hub has it, and no aliases: a few lines of them can mean gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not taken")
        return super().compose_node(parent, index)


_BOOL, _TIMESTAMP = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _TIMESTAMP)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


def split(text: str) -> tuple[str | None, str]:
    """Return a card's head, or None when it has none, and its body."""
    found = _FENCE.match(text)
    return (found.group(1), text[found.end() :]) if found else (None, text)


def read(head: str) -> dict[str, Any]:
    """Return a head as JSON values. Raises HeadError."""
    if len(head) > MAX_HEAD:
        raise HeadError(f"the head has more than {MAX_HEAD} characters")
    try:
        value = yaml.load(head, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
        value = {} if value is None else _json(value)
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise HeadError(" ".join(str(e).split()) or "nested too deeply") from None
    if not isinstance(value, dict):
        raise HeadError("the head is not a mapping of keys to values")
    return value


def metadata(card: str) -> dict[str, Any]:
    """Return the head of a card as JSON values; nothing of one that cannot be read."""
    head, _ = split(card)
    try:
        return read(head) if head is not None else {}
    except HeadError:
        return {}


def judge(card: str) -> Verdict:
    """Check the head of a card."""
    head, _ = split(card)
    if head is None:
        return Verdict(errors=(), warnings=("empty or missing yaml metadata in repo card",))
    try:
        found = read(head)
    except HeadError as e:
        return Verdict(errors=(str(e),), warnings=())
    if not found:
        return Verdict(errors=(), warnings=("empty or missing yaml metadata in repo card",))
    errors = tuple(
        f'"{key}" must be {what}' for key, (what, fits) in _RULES.items() if key in found and not fits(found[key])
    )
    warnings: tuple[str, ...] = ()
    if found.get("license") == "other" and "license_name" not in found:
        warnings = ('"license_name" is missing beside "license: other"',)
    return Verdict(errors=errors, warnings=warnings)


def texts(value: Any) -> list[str]:
    """Return a value that may be one text or a list of texts as a list."""
    found = value if isinstance(value, list) else [value]
    return [v for v in found if isinstance(v, str)]


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k if isinstance(k, str) else json.dumps(_json(k)): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _text_or_list(value: Any) -> bool:
    return _text(value) or _list_of_texts(value)


def _licenses(value: Any) -> bool:
    return _text_or_list(value) and all(v in LICENSES for v in texts(value))


def _list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


def _repo_ids(value: Any) -> bool:
    return _text_or_list(value) and all(_REPO_ID.fullmatch(v) for v in texts(value))


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "base_model": ("the id of a model, or a list of ids", _repo_ids),
    "base_model_relation": (f"one of [{', '.join(_RELATIONS)}]", lambda v: v in _RELATIONS),
    "datasets": ("the id of a dataset, or a list of ids", _repo_ids),
    "language": ("a language code, or a list of codes", _text_or_list),
    "library_name": ("a text", _text),
    "license": (f"one of [{', '.join(LICENSES)}]", _licenses),
    "license_link": ("a text", _text),
    "license_name": ("a text", _text),
    "metrics": ("a list of texts", _text_or_list),
    "model-index": ("an array", _list_of_objects),
    "pipeline_tag": ("a text", _text),
    "tags": ("a list of texts", _list_of_texts),
}
