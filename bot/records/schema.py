"""JSON Schemas of dataclasses that bot/records/base.py reads.

``python -m bot.records.schema > bot/records/evidence.schema.json`` writes that of evidence.

That of phi-bot.toml comes from here too (``python -m bot.config``).
"""

import dataclasses
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from bot.records.base import OBJECT, Json, fields_of, optional_type, words
from bot.records.evidence import EVIDENCE_VERSION, Evidence

_PRIMITIVES = {str: "string", Path: "string", int: "integer", bool: "boolean", float: "number", type(None): "null"}
_Definitions = dict[str, Json] | None  # None: an object stands where it is used


def schema(cls: type, *, title: str, toml: bool = False) -> dict[str, Json]:
    """Return the schema (draft 2020-12) of the objects that are read as a dataclass.

    In ``toml`` there is no null, and each table is described where it stands.
    """
    definitions: dict[str, Json] = {}
    made = _object(cls, None if toml else definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return head | made | ({} if toml else {"$defs": dict(sorted(definitions.items()))})


def _of(hint: Any, definitions: _Definitions) -> dict[str, Json]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin is Annotated:
        made = _of(args[0], definitions)
        for rule in args[1:]:
            made |= rule.schema
        return made
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        return _of(optional_type(args), None) if definitions is None else {"anyOf": [_of(a, definitions) for a in args]}
    if origin is tuple:
        return {"type": "array", "items": _of(args[0], definitions)}
    if origin is dict:
        names = {} if args[0] is str else {"propertyNames": _of(args[0], definitions)}
        return {"type": "object", **names, "additionalProperties": _of(args[1], definitions)}
    if not dataclasses.is_dataclass(hint):
        return {"type": _PRIMITIVES[hint]}
    if definitions is None:
        return _object(hint, None)
    name = getattr(hint, "__name__", "")
    if name not in definitions:
        definitions[name] = {}  # a class may hold itself
        definitions[name] = _object(hint, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _object(cls: Any, definitions: _Definitions) -> dict[str, Json]:
    hints, required = fields_of(cls)
    return {
        "type": "object",
        "description": " ".join((inspect.getdoc(cls) or "").split()),
        "properties": {f.name: _field(f, hints[f.name], definitions) for f in dataclasses.fields(cls)},
        "required": list(required),
        "additionalProperties": False,
    }


def _field(found: "dataclasses.Field[Any]", hint: Any, definitions: _Definitions) -> dict[str, Json]:
    """Return the schema of a field, and for a key of a TOML file what it is for, and its default."""
    made = _of(hint, definitions)
    if definitions is not None or dataclasses.is_dataclass(hint):
        return made
    allowed = "" if words(hint) == OBJECT else f"Allowed: {words(hint)}."
    default = {} if found.default in (dataclasses.MISSING, None) else {"default": found.default}
    return {"description": f"{found.metadata.get('help', '')} {allowed}".strip()} | made | default


def evidence() -> dict[str, Json]:
    """Return the schema of evidence.json, in the version that this bot writes."""
    made = schema(Evidence, title="phi-bot's evidence on one artifact (evidence.json)")
    made["properties"]["version"] = {"const": EVIDENCE_VERSION}
    return made


if __name__ == "__main__":
    print(json.dumps(evidence(), indent=2, ensure_ascii=False))  # noqa: T201
