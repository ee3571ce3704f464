"""The JSON Schema of a record, made from its class: ``python -m bot.record_schema > bot/evidence.schema.json``."""

import inspect
import json
import types
import typing
from typing import Annotated, Any

from bot.evidence import EVIDENCE_VERSION, Evidence
from bot.record import Json, Record, fields_of

_PRIMITIVES = {str: "string", int: "integer", bool: "boolean", float: "number", type(None): "null"}


def schema(record: type[Record], *, title: str) -> dict[str, Json]:
    """Return the schema (draft 2020-12) of what ``record.to_json`` writes and ``record.from_json`` reads."""
    definitions: dict[str, Json] = {}
    top = _of(record, definitions)["$ref"].rpartition("/")[2]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **definitions.pop(top),
        "$defs": dict(sorted(definitions.items())),
    }


def _of(hint: Any, definitions: dict[str, Json]) -> dict[str, Json]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin is Annotated:
        return {"type": "string", "pattern": f"^(?:{args[1].pattern})$"}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(a, definitions) for a in args]}
    if origin is tuple:
        return {"type": "array", "items": _of(args[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(args[1], definitions)}
    if not issubclass(hint, Record):
        return {"type": _PRIMITIVES[hint]}
    name = hint.__name__
    if name not in definitions:
        definitions[name] = {}  # a class may hold itself
        definitions[name] = _object(hint, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _object(record: Any, definitions: dict[str, Json]) -> dict[str, Json]:
    hints, required = fields_of(record)
    return {
        "type": "object",
        "description": " ".join((inspect.getdoc(record) or "").split()),
        "properties": {name: _of(hint, definitions) for name, hint in hints.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def evidence() -> dict[str, Json]:
    """Return the schema of evidence.json, in the version that this bot writes."""
    made = schema(Evidence, title="phi-bot's evidence on one artifact (evidence.json)")
    made["properties"]["version"] = {"const": EVIDENCE_VERSION}
    return made


if __name__ == "__main__":
    print(json.dumps(evidence(), indent=2, ensure_ascii=False))  # noqa: T201
